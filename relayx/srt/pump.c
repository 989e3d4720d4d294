/* Moves messages between SRT sockets, without Python and its lock.
 *
 * A spot is one socket in the set. Its lanes lead to the sockets that get its messages: one for a
 * session, several where a publisher is watched by many. Messages go on whole and in order. A lane
 * that holds keeps the one message that its socket has no room for, and its spot is not read until
 * there is room; a lane that does not hold drops it and counts it, so that no watcher waits for
 * another. All calls but the reading of counters are for one thread.
 *
 * libsrt is called by addresses (relayx_bind), so that neither its headers nor it are needed to
 * build this.
 */

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define IN 1
#define OUT 4
#define ERR 8
#define AGAIN 6 /* libsrt's error codes over a thousand: not now */
#define OVERSIZE 5009 /* libsrt's error code: a message is longer than a packet of this socket */
#define ROOM 65536
#define TURN 512     /* messages of one spot before others have their turn */
#define READY_MOST 256
#define BUCKETS 1024
#define RCVDATA 20 /* SRTO_RCVDATA: packets that have come and were not received */
#define SPARE_NS 5000000000 /* libsrt: a slow handshake has all that follows it due that much later */
#define HELD_MS 20 /* libsrt gives up what is too late only where something is sent */

/* SRT_MSGCTRL of srt.h */
typedef struct {
    int flags, msgttl, inorder, boundary;
    int64_t srctime; /* of a message received: when it is due, in us of CLOCK_MONOTONIC */
    int32_t pktseq, msgno;
    void *grpdata;
    size_t grpdata_size;
} message_control;

typedef struct {
    int (*recv)(int, char *, int);
    int (*recv2)(int, char *, int, message_control *);
    int (*send)(int, const char *, int, int, int);
    int (*error)(int *);
    int (*wait)(int, int *, int *, int *, int *, int64_t, int *, int *, int *, int *);
    int (*add)(int, int, const int *);
    int (*update)(int, int, const int *);
    int (*remove)(int, int);
    int (*option)(int, int, void *, int *);
} srt_calls;

typedef struct spot spot;

typedef struct lane {
    struct lane *next;
    spot *from;
    int to;
    int holds;
    int failed;
    int held_size;
    int held_sent; /* of a stream, which may be taken in part */
    char *held;
    int64_t held_since;
    relayx_counts counts;
} lane;

struct spot {
    spot *next;
    int sock;
    int events;      /* what it is in the set for */
    int joined;      /* it has had lanes: its messages are not for Python */
    int stuck;       /* one of its lanes holds a message */
    int broken;      /* it has ended; what it had sent may still come due */
    int told;        /* Python knows that it has ended */
    int wants_room;  /* Python is told when it has room */
    int latency_ms;
    int64_t broken_until;
    int64_t skip_until_us; /* messages due before are nobody's; 0: none are */
    lane *lanes;
    lane *blocked_by; /* a lane that leads here and holds a message */
};

struct relayx_pump {
    srt_calls srt;
    int eid;
    int wake;
    int pace_us;
    int tails; /* spots that are broken and not told */
    int64_t retry_at;
    int held;  /* lanes that hold a message */
    spot *buckets[BUCKETS];
    char buffer[ROOM];
};

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static spot **place_of(relayx_pump *p, int sock)
{
    spot **at = &p->buckets[(uint32_t)sock % BUCKETS];
    while (*at && (*at)->sock != sock)
        at = &(*at)->next;
    return at;
}

static spot *find(relayx_pump *p, int sock) { return *place_of(p, sock); }

static void watch(relayx_pump *p, spot *s)
{
    int events = s->broken ? 0 : ERR | (s->stuck ? 0 : s->events) | (s->blocked_by || s->wants_room ? OUT : 0);
    if (events)
        p->srt.update(p->eid, s->sock, &events);
    else
        p->srt.remove(p->eid, s->sock);
}

relayx_pump *relayx_new(const uintptr_t *calls, int eid, int wake, int pace_us)
{
    relayx_pump *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->srt.recv = (int (*)(int, char *, int))calls[0];
    p->srt.send = (int (*)(int, const char *, int, int, int))calls[1];
    p->srt.error = (int (*)(int *))calls[2];
    p->srt.wait = (int (*)(int, int *, int *, int *, int *, int64_t, int *, int *, int *,
                           int *))calls[3];
    p->srt.add = (int (*)(int, int, const int *))calls[4];
    p->srt.update = (int (*)(int, int, const int *))calls[5];
    p->srt.remove = (int (*)(int, int))calls[6];
    p->srt.recv2 = (int (*)(int, char *, int, message_control *))calls[7];
    p->srt.option = (int (*)(int, int, void *, int *))calls[8];
    p->eid = eid;
    p->wake = wake;
    p->pace_us = pace_us;
    return p;
}

int relayx_add(relayx_pump *p, int sock, int reads, int latency_ms)
{
    spot *s = find(p, sock);
    if (s)
        return 0;
    s = calloc(1, sizeof *s);
    if (!s)
        return -1;
    s->sock = sock;
    s->events = reads ? IN : 0;
    s->latency_ms = latency_ms;
    s->next = p->buckets[(uint32_t)sock % BUCKETS];
    p->buckets[(uint32_t)sock % BUCKETS] = s;
    int events = s->events | ERR;
    return p->srt.add(p->eid, sock, &events);
}

int relayx_read(relayx_pump *p, int sock, int reads)
{
    spot *s = find(p, sock);
    if (!s)
        return -1;
    s->joined = 0;
    s->events = reads ? IN : 0;
    watch(p, s);
    return 0;
}

int relayx_room(relayx_pump *p, int sock, int wanted)
{
    spot *s = find(p, sock);
    if (!s)
        return -1;
    s->wants_room = wanted;
    watch(p, s);
    return 0;
}

static void take(relayx_pump *p, spot *s)
{
    s->joined = 1;
    s->events = IN;
    watch(p, s);
}

static void unblock(relayx_pump *p, lane *l)
{
    l->counts.stalled_ns += now_ns() - l->held_since;
    l->held_size = 0;
    p->held--;
    spot *to = find(p, l->to);
    if (to && to->blocked_by == l) {
        to->blocked_by = NULL;
        watch(p, to);
    }
    if (l->from->stuck) {
        l->from->stuck = 0;
        watch(p, l->from);
    }
}

/* What a lane holds can go nowhere any more. */
static void give_up(relayx_pump *p, lane *l)
{
    l->failed = 1;
    l->counts.dropped++;
    l->counts.dropped_bytes += l->held_size - l->held_sent;
    unblock(p, l);
}

static void drop_lane(relayx_pump *p, lane *l)
{
    if (l->held_size)
        unblock(p, l);
    free(l->held);
    free(l);
}

int relayx_join(relayx_pump *p, int from, int to, int holds)
{
    spot *s = find(p, from);
    if (!s)
        return -1;
    lane *l = calloc(1, sizeof *l);
    if (!l)
        return -1;
    l->from = s;
    l->to = to;
    l->holds = holds;
    l->next = s->lanes;
    s->lanes = l;
    take(p, s);
    return 0;
}

int relayx_discard(relayx_pump *p, int sock)
{
    spot *s = find(p, sock);
    if (!s)
        return -1;
    take(p, s);
    return 0;
}

int relayx_skip(relayx_pump *p, int sock, int64_t until_us)
{
    spot *s = find(p, sock);
    if (!s)
        return -1;
    s->skip_until_us = until_us;
    return 0;
}

static void end(relayx_pump *p, spot *s)
{
    /* What has come already is due up to a latency later. */
    if (s->broken)
        return;
    s->broken = 1;
    s->broken_until = now_ns() + (int64_t)s->latency_ms * 1000000;
    p->tails++;
    watch(p, s);
}

int relayx_end(relayx_pump *p, int sock)
{
    spot *s = find(p, sock);
    if (!s)
        return -1;
    s->joined = 1;
    end(p, s);
    return 0;
}

static lane *lane_of(relayx_pump *p, int from, int to)
{
    spot *s = find(p, from);
    lane *l = s ? s->lanes : NULL;
    while (l && l->to != to)
        l = l->next;
    return l;
}

int relayx_part(relayx_pump *p, int from, int to)
{
    spot *s = find(p, from);
    if (!s)
        return -1;
    for (lane **at = &s->lanes; *at; at = &(*at)->next)
        if ((*at)->to == to) {
            lane *l = *at;
            *at = l->next;
            drop_lane(p, l);
            return 0;
        }
    return -1;
}

int relayx_counted(relayx_pump *p, int from, int to, relayx_counts *out)
{
    lane *l = lane_of(p, from, to);
    if (!l)
        return -1;
    *out = l->counts;
    if (l->held_size)
        out->stalled_ns += now_ns() - l->held_since;
    return 0;
}

/* Whether a lane leads to somewhere that has yet to take a message. */
int relayx_holds(relayx_pump *p, int from, int to)
{
    lane *l = lane_of(p, from, to);
    return l && l->held_size > 0;
}

void relayx_remove(relayx_pump *p, int sock)
{
    spot **at = place_of(p, sock), *s = *at;
    if (!s)
        return;
    while (s->lanes) {
        lane *l = s->lanes;
        s->lanes = l->next;
        drop_lane(p, l);
    }
    if (s->blocked_by)
        give_up(p, s->blocked_by);
    if (s->broken && !s->told)
        p->tails--;
    if (!s->broken)
        p->srt.remove(p->eid, sock);
    at = place_of(p, sock);
    if (*at)
        *at = s->next;
    free(s);
}

void relayx_free(relayx_pump *p)
{
    for (int i = 0; i < BUCKETS; i++)
        while (p->buckets[i])
            relayx_remove(p, p->buckets[i]->sock);
    free(p);
}

/* Whether libsrt's error code says that a connection is over, and not only that it took no message. */
static int is_over(int code)
{
    return code / 1000 != AGAIN && code != OVERSIZE;
}

/* Give one message to one lane. */
static void give(relayx_pump *p, spot *s, lane *l, const char *data, int size)
{
    int sent = l->failed ? -1 : p->srt.send(l->to, data, size, -1, 1);
    if (sent == size) {
        l->counts.messages++;
        l->counts.bytes += size;
        return;
    }
    int code = sent < 0 && !l->failed ? p->srt.error(NULL) : 0;
    if (code && is_over(code))
        l->failed = 1;
    if (l->failed) /* it is gone, and has not missed anything */
        return;
    if (code == OVERSIZE)
        l->counts.oversize++;
    spot *to = find(p, l->to);
    if (code == OVERSIZE || !l->holds || !to || (!l->held && !(l->held = malloc(ROOM)))) {
        l->counts.dropped++;
        l->counts.dropped_bytes += size;
        return;
    }
    memcpy(l->held, data, size);
    l->held_size = size;
    l->held_sent = sent > 0 ? sent : 0;
    l->counts.bytes += l->held_sent;
    l->held_since = now_ns();
    p->held++;
    s->stuck = 1;
    to->blocked_by = l;
    watch(p, to);
    watch(p, s);
}

/* There may be room again for what a lane holds. */
static void retry(relayx_pump *p, lane *l)
{
    int left = l->held_size - l->held_sent;
    int sent = l->failed ? -1 : p->srt.send(l->to, l->held + l->held_sent, left, -1, 1);
    if (sent < 0 && !l->failed && p->srt.error(NULL) / 1000 == AGAIN)
        return;
    if (sent < 0) {
        give_up(p, l);
        return;
    }
    l->counts.bytes += sent;
    l->held_sent += sent;
    if (sent < left)
        return;
    l->counts.messages++;
    unblock(p, l);
}

/* Receive one message; 0 in skip where it is somebody's. */
static int receive(relayx_pump *p, spot *s, int *skip)
{
    message_control control = {0};
    *skip = 0;
    if (!s->skip_until_us)
        return p->srt.recv(s->sock, p->buffer, ROOM);
    int size = p->srt.recv2(s->sock, p->buffer, ROOM, &control);
    if (size > 0 && control.srctime < s->skip_until_us)
        *skip = 1;
    else if (size > 0)
        s->skip_until_us = 0; /* they come in order */
    return size;
}

/* Whether nothing more can come due of a spot that has ended. */
static int is_done(relayx_pump *p, spot *s)
{
    int64_t now = now_ns();
    int32_t left = 0;
    int size = sizeof left;
    if (now < s->broken_until)
        return 0;
    return now >= s->broken_until + SPARE_NS || p->srt.option(s->sock, RCVDATA, &left, &size) < 0 || !left;
}

/* Move what a spot has; 1 where it has ended and nothing more can come. */
static int move(relayx_pump *p, spot *s, int *moved)
{
    for (int i = 0; i < TURN && !s->stuck; i++) {
        int skip, size = receive(p, s, &skip);
        if (size > 0) {
            ++*moved;
            if (skip)
                continue;
            for (lane *l = s->lanes, *next; l; l = next) {
                next = l->next;
                give(p, s, l, p->buffer, size);
            }
            continue;
        }
        int code = size == 0 ? 2001 : p->srt.error(NULL);
        if (code / 1000 == AGAIN)
            return 0;
        end(p, s);
        return is_done(p, s);
    }
    return 0;
}

static int tell(spot *s, relayx_pump *p, relayx_event *out)
{
    s->told = 1;
    p->tails--;
    out->sock = s->sock;
    out->what = RELAYX_ENDED;
    return 1;
}

/* Wait and move messages, until something is for Python; how many such events there are.
 * A timeout below 0 is none. */
int relayx_run(relayx_pump *p, int64_t timeout_ms, relayx_event *out, int room)
{
    int readable[READY_MOST], writable[READY_MOST], local[1];
    int64_t deadline = timeout_ms < 0 ? INT64_MAX : now_ns() + timeout_ms * 1000000;
    for (;;) {
        int reads = READY_MOST, writes = READY_MOST, wakes = 1, found = 0, moved = 0;
        int64_t left = timeout_ms < 0 ? -1 : (deadline - now_ns() + 999999) / 1000000;
        if (timeout_ms >= 0 && left < 0)
            left = 0;
        if (p->tails && (left < 0 || left > 2))
            left = 2;
        if (p->held && (left < 0 || left > HELD_MS))
            left = HELD_MS;
        int ready = p->srt.wait(p->eid, readable, &reads, writable, &writes, left, local, &wakes,
                                NULL, NULL);
        if (ready < 0) {
            if (p->srt.error(NULL) / 1000 != AGAIN)
                return -1;
            reads = writes = wakes = 0;
        }
        if (reads > READY_MOST)
            reads = READY_MOST;
        if (writes > READY_MOST)
            writes = READY_MOST;
        if (wakes > 0 && ready > 0) {
            uint64_t count;
            if (read(p->wake, &count, sizeof count) > 0 || errno != EAGAIN)
                out[found++] = (relayx_event){-1, RELAYX_WOKEN};
        }
        for (int i = 0; i < writes; i++) {
            spot *s = find(p, writable[i]);
            if (s && s->blocked_by)
                retry(p, s->blocked_by);
            else if (s && s->wants_room && found < room)
                out[found++] = (relayx_event){s->sock, RELAYX_ROOM};
        }
        if (p->held && now_ns() >= p->retry_at) {
            p->retry_at = now_ns() + HELD_MS * 1000000;
            for (int b = 0; b < BUCKETS; b++)
                for (spot *s = p->buckets[b]; s; s = s->next)
                    if (s->blocked_by)
                        retry(p, s->blocked_by);
        }
        for (int i = 0; i < reads && found < room; i++) {
            spot *s = find(p, readable[i]);
            if (!s || (!s->joined && !s->broken)) {
                out[found++] = (relayx_event){readable[i], RELAYX_READABLE};
                continue;
            }
            if (s->stuck) /* not read, so this is its end */
                end(p, s);
            else
                move(p, s, &moved);
        }
        if (p->tails)
            for (int b = 0; b < BUCKETS; b++)
                for (spot *s = p->buckets[b]; s && found < room; s = s->next)
                    if (s->broken && !s->told && !s->stuck && move(p, s, &moved))
                        found += tell(s, p, out + found);
        if (found || (timeout_ms >= 0 && now_ns() >= deadline))
            return found;
        if (moved && p->pace_us) { /* several messages a turn cost less than one each */
            struct timespec pause = {0, p->pace_us * 1000L};
            nanosleep(&pause, NULL);
        }
    }
}
