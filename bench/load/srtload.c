/* Load generator for SRT relays: callers that send into it, callers that receive from it.
 *
 *   srtload [OPTION...] IN_HOST:PORT,OUT_HOST:PORT...      a word a session
 *
 * Of each session one caller sends numbered messages at a steady rate, and another takes what the
 * relay makes of it and compares every byte. All senders are in one thread and all receivers in
 * another, besides the threads that libsrt makes for every socket. What it prints is of the whole
 * run where it is about messages (sent, received, lost), and of the time between warmup and end
 * where it is about rates, delays and CPU time.
 *
 * Between the end of sending and the last message that arrives nothing is closed: a receiver of
 * SRT drops what it has not played when the sender closes.
 */
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <srt/srt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define MOST_SESSIONS 64
#define MOST_BYTES 1456
#define WORDS (MOST_BYTES / 8)
#define TICK_NS 1000000ull

struct session {
    char *in, *out;
    SRTSOCKET source, sink;
    uint64_t sent, due;
    uint64_t received, expected, behind, corrupt, first;
    int over;
};

static struct {
    struct plan plan;
    const char *in_id, *out_id, *passphrase;
    double rate_mbit; /* of each session; 0: as fast as the sender's buffer empties */
    int size, latency, buffers, pbkeylen, retry_ms;
} told = {.plan = {SECOND_NS / 2, 3 * SECOND_NS, 3 * SECOND_NS, 0, 0, 1, {0}, 0},
          .in_id = "", .out_id = "", .passphrase = "", .rate_mbit = 8,
          .size = 1316, .latency = 120, .retry_ms = 10000};

static struct session sessions[MOST_SESSIONS];
static int session_count;
static uint64_t begin_ns, from_ns, until_ns; /* of sending; of what is measured */
static uint64_t total_sent, total_received, window_received, behind_schedule_ns, stuck_ms;
static int stop_receiving, sending_failed;
static struct samples delays;
static uint64_t template_words[WORDS];

static _Noreturn void srt_fail(const char *what, int index)
{
    fprintf(stderr, "srtload: %s %d: %s\n", what, index, srt_getlasterror_str());
    exit(1);
}

/* The first two words are number and time; the others follow from the number. */
static void fill(uint64_t *words, uint64_t number)
{
    words[0] = number;
    words[1] = now_ns();
    for (int i = 2; i < told.size / 8; i++)
        words[i] = template_words[i] + number;
}

static int intact(const uint64_t *words)
{
    uint64_t differs = 0;
    for (int i = 2; i < told.size / 8; i++)
        differs |= words[i] ^ (template_words[i] + words[0]);
    return !differs;
}

static struct sockaddr_in address_of(const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    char host[64];
    const char *colon = strrchr(text, ':');
    if (!colon || (size_t)(colon - text) >= sizeof host) {
        fprintf(stderr, "srtload: %s is not HOST:PORT\n", text);
        exit(2);
    }
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = 0;
    address.sin_port = htons((uint16_t)atoi(colon + 1));
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        fprintf(stderr, "srtload: %s is not an IPv4 address\n", host);
        exit(2);
    }
    return address;
}

static void set(SRTSOCKET socket, SRT_SOCKOPT option, const void *value, int length)
{
    if (srt_setsockflag(socket, option, value, length) < 0)
        srt_fail("option", (int)option);
}

static void set_int(SRTSOCKET socket, SRT_SOCKOPT option, int value)
{
    set(socket, option, &value, sizeof value);
}

static SRTSOCKET called(const char *address_text, const char *id)
{
    const struct sockaddr_in address = address_of(address_text);
    const SRTSOCKET made = srt_create_socket();
    if (made == SRT_INVALID_SOCK)
        srt_fail("socket", 0);
    set_int(made, SRTO_LATENCY, told.latency);
    set_int(made, SRTO_PAYLOADSIZE, told.size);
    set_int(made, SRTO_CONNTIMEO, 5000);
    if (told.buffers) {
        set_int(made, SRTO_FC, told.buffers / 1000);
        set_int(made, SRTO_SNDBUF, told.buffers);
        set_int(made, SRTO_RCVBUF, told.buffers);
    }
    if (*told.passphrase) {
        set(made, SRTO_PASSPHRASE, told.passphrase, (int)strlen(told.passphrase));
        if (told.pbkeylen)
            set_int(made, SRTO_PBKEYLEN, told.pbkeylen);
    }
    if (*id)
        set(made, SRTO_STREAMID, id, (int)strlen(id));
    if (srt_connect(made, (const struct sockaddr *)&address, sizeof address) < 0) {
        const int reason = srt_getrejectreason(made);
        fprintf(stderr, "srtload: %s: %s: %d %s\n", address_text, srt_getlasterror_str(), reason,
                srt_rejectreason_str(reason));
        srt_close(made);
        return SRT_INVALID_SOCK;
    }
    return made;
}

/* A relay that has just begun, or has not yet seen the other side, may refuse at first. */
static SRTSOCKET call(const char *address, const char *id)
{
    const uint64_t deadline = now_ns() + (uint64_t)told.retry_ms * 1000000;
    for (;;) {
        const SRTSOCKET made = called(address, id);
        if (made != SRT_INVALID_SOCK)
            return made;
        if (now_ns() > deadline)
            exit(1);
        sleep_until(now_ns() + SECOND_NS / 20);
    }
}

static void send_one(struct session *session)
{
    uint64_t message[WORDS];
    fill(message, session->sent);
    if (srt_sendmsg2(session->source, (const char *)message, told.size, NULL) < 0) {
        if (srt_getlasterror(NULL) == SRT_ETIMEOUT) {
            stuck_ms += 1000; /* the relay takes nothing */
            return;
        }
        fprintf(stderr, "srtload: send %ld: %s\n", (long)(session - sessions),
                srt_getlasterror_str());
        __atomic_store_n(&sending_failed, 1, __ATOMIC_RELAXED);
        session->over = 1;
        return;
    }
    session->sent++;
    __atomic_add_fetch(&total_sent, 1, __ATOMIC_RELAXED);
}

static void *send_all(void *unused)
{
    (void)unused;
    const uint64_t each =
        told.rate_mbit > 0 ? (uint64_t)(told.size * 8e3 / told.rate_mbit) : 0; /* ns */
    for (int i = 0; i < session_count; i++)
        sessions[i].due = begin_ns + each * (uint64_t)i / (uint64_t)session_count;
    for (uint64_t now; (now = now_ns()) < until_ns;) {
        for (int i = 0; i < session_count; i++) {
            struct session *session = &sessions[i];
            if (session->over)
                continue;
            if (!each)
                send_one(session);
            for (; each && session->due <= now && session->due < until_ns && !session->over &&
                   now_ns() < until_ns;
                 session->due += each) {
                const uint64_t late = now - session->due;
                if (late > behind_schedule_ns)
                    behind_schedule_ns = late;
                send_one(session);
            }
        }
        if (each)
            sleep_until(now + (each < TICK_NS ? TICK_NS : each / 4));
    }
    return NULL;
}

static void take(struct session *session, const uint64_t *words, int length)
{
    const uint64_t now = now_ns();
    if (length != told.size || !intact(words)) {
        session->corrupt++;
        return;
    }
    if (!session->received)
        session->first = words[0];
    if (words[0] < session->expected)
        session->behind++;
    else
        session->expected = words[0] + 1;
    session->received++;
    __atomic_add_fetch(&total_received, 1, __ATOMIC_RELAXED);
    if (words[1] >= from_ns && words[1] < until_ns)
        add_sample(&delays, now - words[1]);
    if (now >= from_ns && now < until_ns)
        window_received++;
}

static void *receive_all(void *unused)
{
    (void)unused;
    SRT_EPOLL_EVENT ready[MOST_SESSIONS];
    uint64_t message[WORDS];
    const int waiting = srt_epoll_create(), events = SRT_EPOLL_IN | SRT_EPOLL_ERR;
    for (int i = 0; i < session_count; i++)
        if (srt_epoll_add_usock(waiting, sessions[i].sink, &events) < 0)
            srt_fail("epoll", i);
    while (!__atomic_load_n(&stop_receiving, __ATOMIC_RELAXED)) {
        const int count = srt_epoll_uwait(waiting, ready, MOST_SESSIONS, 100);
        for (int j = 0; j < count; j++) {
            struct session *session = sessions;
            while (session->sink != ready[j].fd)
                session++;
            int length;
            while ((length = srt_recvmsg2(ready[j].fd, (char *)message, sizeof message, NULL)) > 0)
                take(session, message, length);
            if (srt_getlasterror(NULL) != SRT_EASYNCRCV) {
                fprintf(stderr, "srtload: receive %ld: %s\n", (long)(session - sessions),
                        srt_getlasterror_str());
                srt_epoll_remove_usock(waiting, ready[j].fd);
            }
        }
    }
    srt_epoll_release(waiting);
    return NULL;
}

static void print_stats(void)
{
    uint64_t packets = 0, again = 0, send_drops = 0, send_losses = 0;
    uint64_t receive_drops = 0, receive_losses = 0;
    double rtt = 0;
    for (int i = 0; i < session_count; i++) {
        SRT_TRACEBSTATS found;
        if (srt_bistats(sessions[i].source, &found, 0, 1) == 0) {
            packets += (uint64_t)found.pktSentTotal;
            again += (uint64_t)found.pktRetransTotal;
            send_drops += (uint64_t)found.pktSndDropTotal;
            send_losses += (uint64_t)found.pktSndLossTotal;
            rtt = found.msRTT > rtt ? found.msRTT : rtt;
        }
        if (srt_bistats(sessions[i].sink, &found, 0, 1) == 0) {
            receive_drops += (uint64_t)found.pktRcvDropTotal;
            receive_losses += (uint64_t)found.pktRcvLossTotal;
        }
    }
    printf("\"source\": {\"packets\": %lu, \"retransmitted\": %lu, \"dropped\": %lu, "
           "\"reported_lost\": %lu, \"rtt_ms\": %.3f}, "
           "\"sink\": {\"dropped\": %lu, \"lost\": %lu}",
           packets, again, send_drops, send_losses, rtt, receive_drops, receive_losses);
}

static void print_all(const struct snapshot *from, const struct snapshot *to)
{
    uint64_t sent = 0, received = 0, behind = 0, corrupt = 0, head = 0;
    for (int i = 0; i < session_count; i++) {
        sent += sessions[i].sent;
        received += sessions[i].received;
        behind += sessions[i].behind;
        corrupt += sessions[i].corrupt;
        head += sessions[i].first;
    }
    const double seconds = (double)(until_ns - from_ns) / 1e9;
    const double bytes = (double)window_received * told.size;
    printf("{\"sessions\": %d, \"sent\": %lu, \"received\": %lu, \"lost\": %ld, "
           "\"lost_before_first\": %lu, \"out_of_order\": %lu, \"corrupt\": %lu, "
           "\"bytes\": %.0f, \"mbit_per_s\": %.3f, \"behind_schedule_ms\": %.3f, \"stuck_ms\": %lu, ",
           session_count, sent, received, (long)(sent - received), head, behind, corrupt, bytes,
           bytes * 8 / seconds / 1e6, (double)behind_schedule_ns / 1e6, stuck_ms);
    print_snapshots(&told.plan, from, to);
    printf(", ");
    print_samples("delay", &delays);
    printf(", ");
    print_stats();
    printf("}\n");
}

static void wait_for_the_rest(void)
{
    uint64_t seen = __atomic_load_n(&total_received, __ATOMIC_RELAXED), since = now_ns();
    while (now_ns() - since < told.plan.drain) {
        sleep_until(now_ns() + SECOND_NS / 100);
        const uint64_t got = __atomic_load_n(&total_received, __ATOMIC_RELAXED);
        if (got >= __atomic_load_n(&total_sent, __ATOMIC_RELAXED))
            return;
        if (got != seen) {
            seen = got;
            since = now_ns();
        }
    }
}

static void read_options(int argc, char **argv)
{
    static const struct option options[] = {
        {"warmup", 1, NULL, 'w'},  {"seconds", 1, NULL, 's'}, {"drain", 1, NULL, 'd'},
        {"watch", 1, NULL, 'p'},   {"rate", 1, NULL, 'r'},    {"size", 1, NULL, 'z'},
        {"latency", 1, NULL, 'l'}, {"buffers", 1, NULL, 'b'}, {"in-id", 1, NULL, 'i'},
        {"out-id", 1, NULL, 'o'},  {"passphrase", 1, NULL, 'P'}, {"pbkeylen", 1, NULL, 'k'},
        {"retry", 1, NULL, 'R'},   {NULL, 0, NULL, 0}};
    int letter;
    while ((letter = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (letter) {
        case 'w': told.plan.warmup = to_ns(optarg); break;
        case 's': told.plan.seconds = to_ns(optarg); break;
        case 'd': told.plan.drain = to_ns(optarg); break;
        case 'p': watch(&told.plan, optarg); break;
        case 'r': told.rate_mbit = atof(optarg); break;
        case 'z': told.size = atoi(optarg); break;
        case 'l': told.latency = atoi(optarg); break;
        case 'b': told.buffers = atoi(optarg); break;
        case 'i': told.in_id = optarg; break;
        case 'o': told.out_id = optarg; break;
        case 'P': told.passphrase = optarg; break;
        case 'k': told.pbkeylen = atoi(optarg); break;
        case 'R': told.retry_ms = (int)(atof(optarg) * 1000); break;
        default: exit(2);
        }
    }
    for (; optind < argc && session_count < MOST_SESSIONS; optind++) {
        struct session *session = &sessions[session_count++];
        session->in = strtok(argv[optind], ",");
        session->out = strtok(NULL, ",");
        if (!session->in || !session->out)
            exit(2);
    }
    if (!session_count || told.size < 32 || told.size > MOST_BYTES)
        exit(2);
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlive the driver */
    alarm((unsigned)((told.plan.warmup + told.plan.seconds + told.plan.drain) / SECOND_NS) + 40);
    srt_startup();
    srt_setloglevel(2);
    for (int i = 0; i < WORDS; i++)
        template_words[i] = (uint64_t)(i + 1) * 0x9e3779b97f4a7c15ull;
    for (int i = 0; i < session_count; i++) {
        struct session *session = &sessions[i];
        session->source = call(session->in, told.in_id);
        session->sink = call(session->out, told.out_id);
        set_int(session->sink, SRTO_RCVSYN, 0);
        set_int(session->source, SRTO_SNDTIMEO, 1000);
    }
    sleep_until(now_ns() + SECOND_NS * 3 / 10); /* the relay may need a moment to join them */
    begin_ns = now_ns();
    from_ns = begin_ns + told.plan.warmup;
    until_ns = from_ns + told.plan.seconds;
    pthread_t sender, receiver;
    if (pthread_create(&receiver, NULL, receive_all, NULL) ||
        pthread_create(&sender, NULL, send_all, NULL))
        fail("threads");
    struct snapshot from, to;
    sleep_until(from_ns);
    take_snapshot(&told.plan, &from);
    sleep_until(until_ns);
    take_snapshot(&told.plan, &to);
    pthread_join(sender, NULL);
    wait_for_the_rest();
    __atomic_store_n(&stop_receiving, 1, __ATOMIC_RELAXED);
    pthread_join(receiver, NULL);
    print_all(&from, &to);
    for (int i = 0; i < session_count; i++) {
        srt_close(sessions[i].source);
        srt_close(sessions[i].sink);
    }
    srt_cleanup();
    return 0;
}
