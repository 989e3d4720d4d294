"""What of libsrt's C interface is used, as srt.h of libsrt 1.4.4 and later declares it."""

from __future__ import annotations

FUNCTIONS = """
typedef int SRTSOCKET;
int srt_startup(void);
int srt_cleanup(void);
uint32_t srt_getversion(void);
SRTSOCKET srt_create_socket(void);
int srt_bind(SRTSOCKET u, const void *name, int namelen);
int srt_bind_acquire(SRTSOCKET u, int sys_udp_sock);
int srt_listen(SRTSOCKET u, int backlog);
SRTSOCKET srt_accept(SRTSOCKET u, void *addr, int *addrlen);
typedef int srt_listen_callback_fn(void *opaq, SRTSOCKET ns, int hsversion,
                                   const void *peeraddr, const char *streamid);
int srt_listen_callback(SRTSOCKET lsn, srt_listen_callback_fn *hook_fn, void *hook_opaque);
int srt_connect(SRTSOCKET u, const void *name, int namelen);
int srt_rendezvous(SRTSOCKET u, const void *local_name, int local_namelen,
                   const void *remote_name, int remote_namelen);
int srt_close(SRTSOCKET u);
int srt_getsockname(SRTSOCKET u, void *name, int *namelen);
int srt_getsockflag(SRTSOCKET u, int opt, void *optval, int *optlen);
int srt_setsockflag(SRTSOCKET u, int opt, const void *optval, int optlen);
typedef struct {
    int flags; int msgttl; int inorder; int boundary;
    int64_t srctime; int32_t pktseq; int32_t msgno;
    void *grpdata; size_t grpdata_size;
} SRT_MSGCTRL;
int srt_recvmsg(SRTSOCKET u, char *buf, int len);
int srt_recvmsg2(SRTSOCKET u, char *buf, int len, SRT_MSGCTRL *mctrl);
int srt_sendmsg(SRTSOCKET u, const char *buf, int len, int ttl, int inorder);
const char *srt_strerror(int code, int errnoval);
const char *srt_getlasterror_str(void);
int srt_getlasterror(int *errno_loc);
int srt_getsockstate(SRTSOCKET u);
int srt_epoll_create(void);
int srt_epoll_add_usock(int eid, SRTSOCKET u, const int *events);
int srt_epoll_add_ssock(int eid, int s, const int *events);
int srt_epoll_remove_usock(int eid, SRTSOCKET u);
int srt_epoll_update_usock(int eid, SRTSOCKET u, const int *events);
int srt_epoll_wait(int eid, SRTSOCKET *readfds, int *rnum, SRTSOCKET *writefds, int *wnum,
                   int64_t msTimeOut, int *lrfds, int *lrnum, int *lwfds, int *lwnum);
int srt_epoll_release(int eid);
void srt_setloglevel(int ll);
int srt_getsndbuffer(SRTSOCKET sock, size_t *blocks, size_t *bytes);
int srt_getrejectreason(SRTSOCKET sock);
int srt_setrejectreason(SRTSOCKET sock, int value);
const char *srt_rejectreason_str(int id);
"""

STATISTICS = (
    ("int64_t", "msTimeStamp pktSentTotal pktRecvTotal"),
    (
        "int",
        "pktSndLossTotal pktRcvLossTotal pktRetransTotal pktSentACKTotal pktRecvACKTotal "
        "pktSentNAKTotal pktRecvNAKTotal",
    ),
    ("int64_t", "usSndDurationTotal"),
    ("int", "pktSndDropTotal pktRcvDropTotal pktRcvUndecryptTotal"),
    (
        "uint64_t",
        "byteSentTotal byteRecvTotal byteRcvLossTotal byteRetransTotal byteSndDropTotal "
        "byteRcvDropTotal byteRcvUndecryptTotal",
    ),
    ("int64_t", "pktSent pktRecv"),
    (
        "int",
        "pktSndLoss pktRcvLoss pktRetrans pktRcvRetrans pktSentACK pktRecvACK pktSentNAK "
        "pktRecvNAK",
    ),
    ("double", "mbpsSendRate mbpsRecvRate"),
    ("int64_t", "usSndDuration"),
    ("int", "pktReorderDistance"),
    ("double", "pktRcvAvgBelatedTime"),
    ("int64_t", "pktRcvBelated"),
    ("int", "pktSndDrop pktRcvDrop pktRcvUndecrypt"),
    (
        "uint64_t",
        "byteSent byteRecv byteRcvLoss byteRetrans byteSndDrop byteRcvDrop byteRcvUndecrypt",
    ),
    ("double", "usPktSndPeriod"),
    ("int", "pktFlowWindow pktCongestionWindow pktFlightSize"),
    ("double", "msRTT mbpsBandwidth"),
    ("int", "byteAvailSndBuf byteAvailRcvBuf"),
    ("double", "mbpsMaxBW"),
    (
        "int",
        "byteMSS pktSndBuf byteSndBuf msSndBuf msSndTsbPdDelay pktRcvBuf byteRcvBuf msRcvBuf "
        "msRcvTsbPdDelay pktSndFilterExtraTotal pktRcvFilterExtraTotal pktRcvFilterSupplyTotal "
        "pktRcvFilterLossTotal pktSndFilterExtra pktRcvFilterExtra pktRcvFilterSupply "
        "pktRcvFilterLoss pktReorderTolerance",
    ),
    ("int64_t", "pktSentUniqueTotal pktRecvUniqueTotal"),
    ("uint64_t", "byteSentUniqueTotal byteRecvUniqueTotal"),
    ("int64_t", "pktSentUnique pktRecvUnique"),
    ("uint64_t", "byteSentUnique byteRecvUnique"),
)
"""The members of SRT_TRACEBSTATS in their order, by C type. Later versions add to its end."""


def declarations() -> str:
    """All of it, as cffi takes it."""
    members = "".join(f"  {kind} {name};\n" for kind, names in STATISTICS for name in names.split())
    # Room for what later versions add: they write all of theirs.
    return (
        f"{FUNCTIONS}\ntypedef struct {{\n{members}  char later[1024];\n}} SRT_TRACEBSTATS;\n"
        "int srt_bstats(SRTSOCKET u, SRT_TRACEBSTATS *perf, int clear);\n"
    )
