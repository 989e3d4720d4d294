typedef struct relayx_pump relayx_pump;

typedef struct {
    int64_t messages;      /* taken by libsrt for the other side */
    int64_t bytes;
    int64_t dropped;       /* messages that the other side did not get */
    int64_t dropped_bytes;
    int64_t oversize;      /* of these, messages that are longer than a packet to the other side */
    int64_t stalled_ns;    /* for how long a message was held */
} relayx_counts;

enum { RELAYX_READABLE = 1, RELAYX_ENDED = 2, RELAYX_WOKEN = 3, RELAYX_ROOM = 4 };

typedef struct {
    int sock;
    int what;
} relayx_event;

relayx_pump *relayx_new(const uintptr_t *calls, int eid, int wake, int pace_us);
void relayx_free(relayx_pump *p);
int relayx_add(relayx_pump *p, int sock, int reads, int latency_ms);
int relayx_read(relayx_pump *p, int sock, int reads);
int relayx_room(relayx_pump *p, int sock, int wanted);
int relayx_join(relayx_pump *p, int from, int to, int holds);
int relayx_discard(relayx_pump *p, int sock);
int relayx_skip(relayx_pump *p, int sock, int64_t until_us);
int relayx_end(relayx_pump *p, int sock);
int relayx_part(relayx_pump *p, int from, int to);
int relayx_counted(relayx_pump *p, int from, int to, relayx_counts *out);
int relayx_holds(relayx_pump *p, int from, int to);
void relayx_remove(relayx_pump *p, int sock);
int relayx_run(relayx_pump *p, int64_t timeout_ms, relayx_event *out, int room);
