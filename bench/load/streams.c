/* Floods and ping-pongs over connected sockets.
 *
 * Floods: one thread sends on every source, one receives on every sink, each with an epoll of its
 * own. Ping-pongs: one thread asks and echoes, which leaves a core to the relay where there are
 * two (or one thread each, if told). The main thread keeps time. */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK (256 * 1024)
#define PERIOD 251 /* the stream is 0 1 2 ... 250 again and again: no power of two divides it */
#define BURST 4    /* calls on one socket before the next has its turn */
#define PING 64

struct lane {
    int source, sink;
    _Atomic uint64_t sent, got;
    uint64_t wrong;                 /* bytes that are not those sent */
    int source_error, sink_error;   /* errno; -1 is an early end of stream */
};

struct end {
    int fd, asks;
    int have, outstanding, error;   /* outstanding is the asking thread's alone */
    uint64_t number, asked_at;
    unsigned char message[PING];
};

static const struct plan *plan;
static struct lane *lanes;
static struct end *ends;
static int lane_count, end_count;
static _Atomic int measuring, stop, sources_done, asking_done;
static _Atomic uint64_t trips;
static unsigned char pattern[CHUNK + PERIOD];
static struct samples samples;

static void join_epoll(int epoll, int fd, uint32_t events, void *what)
{
    struct epoll_event event = {.events = events, .data.ptr = what};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
        fail("epoll_ctl");
}

static int new_epoll(void)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        fail("epoll_create1");
    return epoll;
}

/* Sends until the socket is full; false when the lane has ended. */
static int send_some(struct lane *lane)
{
    for (int i = 0; i < BURST; i++) {
        uint64_t sent = atomic_load_explicit(&lane->sent, memory_order_relaxed);
        ssize_t n = send(lane->source, pattern + sent % PERIOD, CHUNK, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return 1;
        if (n < 0) {
            lane->source_error = errno;
            return 0;
        }
        atomic_store_explicit(&lane->sent, sent + (uint64_t)n, memory_order_relaxed);
        if (n < CHUNK)
            return 1;
    }
    return 1;
}

static void *run_sources(void *unused)
{
    int epoll = new_epoll();
    struct epoll_event events[64];
    for (int i = 0; i < lane_count; i++)
        join_epoll(epoll, lanes[i].source, EPOLLOUT, &lanes[i]);
    while (!stop) {
        int n = epoll_wait(epoll, events, 64, 20);
        for (int i = 0; i < n; i++) {
            struct lane *lane = events[i].data.ptr;
            if (!send_some(lane))
                epoll_ctl(epoll, EPOLL_CTL_DEL, lane->source, NULL);
        }
    }
    close(epoll);
    return unused;
}

static int receive_some(struct lane *lane, unsigned char *buffer)
{
    int flags = MSG_DONTWAIT | (plan->verify ? 0 : MSG_TRUNC); /* TRUNC: dropped, not copied */
    for (int i = 0; i < BURST; i++) {
        ssize_t n = recv(lane->sink, buffer, CHUNK, flags);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return 1;
        if (n <= 0) {
            lane->sink_error = n ? errno : -1;
            return 0;
        }
        uint64_t got = atomic_load_explicit(&lane->got, memory_order_relaxed);
        if (plan->verify && memcmp(buffer, pattern + got % PERIOD, (size_t)n))
            lane->wrong += (uint64_t)n;
        atomic_store_explicit(&lane->got, got + (uint64_t)n, memory_order_relaxed);
        if (n < CHUNK)
            return 1;
    }
    return 1;
}

static int all_arrived(void)
{
    for (int i = 0; i < lane_count; i++)
        if (lanes[i].got < lanes[i].sent && !lanes[i].sink_error)
            return 0;
    return 1;
}

/* Runs on after the sources have stopped, until everything sent has come or `drain` has passed. */
static void *run_sinks(void *unused)
{
    unsigned char *buffer = malloc(CHUNK);
    struct epoll_event events[64];
    uint64_t deadline = 0;
    int epoll = new_epoll();
    if (!buffer)
        fail("malloc");
    for (int i = 0; i < lane_count; i++)
        join_epoll(epoll, lanes[i].sink, EPOLLIN, &lanes[i]);
    while (plan->stall && !sources_done)
        usleep(1000);
    for (;;) {
        if (sources_done) {
            if (!deadline)
                deadline = now_ns() + plan->drain;
            if (all_arrived() || now_ns() > deadline)
                break;
        }
        int n = epoll_wait(epoll, events, 64, 20);
        for (int i = 0; i < n; i++) {
            struct lane *lane = events[i].data.ptr;
            if (!receive_some(lane, buffer))
                epoll_ctl(epoll, EPOLL_CTL_DEL, lane->sink, NULL);
        }
    }
    close(epoll);
    free(buffer);
    return unused;
}

static void send_message(struct end *end)
{
    ssize_t n = send(end->fd, end->message, PING, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n != PING)
        end->error = n < 0 ? errno : EMSGSIZE;
}

static void ask(struct end *end)
{
    end->number++;
    memset(end->message, (int)(end->number & 0xff), PING);
    memcpy(end->message, &end->number, sizeof end->number);
    end->outstanding = 1;
    end->asked_at = now_ns();
    send_message(end);
}

static void answered(struct end *end)
{
    uint64_t number;
    memcpy(&number, end->message, sizeof number);
    if (number != end->number || end->message[PING - 1] != (end->number & 0xff)) {
        end->error = EBADMSG;
        return;
    }
    end->outstanding = 0;
    if (measuring) {
        add_sample(&samples, now_ns() - end->asked_at);
        atomic_fetch_add_explicit(&trips, 1, memory_order_relaxed);
    }
    if (!stop)
        ask(end);
}

/* Takes what came for one end of a ping-pong; false when it has failed. */
static int take_message(struct end *end)
{
    ssize_t n = recv(end->fd, end->message + end->have, (size_t)(PING - end->have), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 1;
    if (n <= 0) {
        end->error = n ? errno : EPIPE;
        return 0;
    }
    end->have += (int)n;
    if (end->have < PING)
        return 1;
    end->have = 0;
    if (end->asks)
        answered(end);
    else
        send_message(end);
    return !end->error;
}

static int any_outstanding(void)
{
    for (int i = 0; i < end_count; i++)
        if (ends[i].outstanding && !ends[i].error)
            return 1;
    return 0;
}

/* `role`: 1 asks, 0 echoes, -1 does both. */
static void run_pings(int role)
{
    int epoll = new_epoll();
    struct epoll_event events[64];
    uint64_t deadline = 0;
    for (int i = 0; i < end_count; i++)
        if (role < 0 || ends[i].asks == role)
            join_epoll(epoll, ends[i].fd, EPOLLIN, &ends[i]);
    for (int i = 0; i < end_count; i++)
        if (role && ends[i].asks)
            ask(&ends[i]);
    for (;;) {
        if (role && stop) {
            if (!deadline)
                deadline = now_ns() + 2 * SECOND_NS;
            if (!any_outstanding() || now_ns() > deadline)
                break;
        } else if (!role && asking_done) {
            break;
        }
        int n = epoll_wait(epoll, events, 64, 20);
        for (int i = 0; i < n; i++) {
            struct end *end = events[i].data.ptr;
            if (!take_message(end))
                epoll_ctl(epoll, EPOLL_CTL_DEL, end->fd, NULL);
        }
    }
    close(epoll);
}

static void *ask_thread(void *unused)
{
    run_pings(plan->ping_threads == 1 ? -1 : 1);
    asking_done = 1;
    return unused;
}

static void *echo_thread(void *unused)
{
    run_pings(0);
    return unused;
}

static void parse(char **words, int count)
{
    lanes = calloc((size_t)count + 1, sizeof *lanes);
    ends = calloc(2 * (size_t)count + 1, sizeof *ends);
    if (!lanes || !ends)
        fail("calloc");
    for (int i = 0; i < count; i++) {
        int a, b;
        if (sscanf(words[i], "flood:%d:%d", &a, &b) == 2) {
            lanes[lane_count].source = a;
            lanes[lane_count++].sink = b;
        } else if (sscanf(words[i], "ping:%d:%d", &a, &b) == 2) {
            ends[end_count].asks = 1;
            ends[end_count++].fd = a;
            ends[end_count++].fd = b;
        } else {
            fprintf(stderr, "load: %s is neither flood:FD:FD nor ping:FD:FD\n", words[i]);
            exit(2);
        }
    }
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = (unsigned char)(i % PERIOD);
}

static uint64_t arrived(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < lane_count; i++)
        sum += lanes[i].got;
    return sum;
}

static void start(pthread_t *thread, void *(*body)(void *))
{
    errno = pthread_create(thread, NULL, body, NULL);
    if (errno)
        fail("pthread_create");
}

static void print_totals(uint64_t moved)
{
    uint64_t sent = 0, wrong = 0;
    int lane_errors = 0, ping_errors = 0;
    for (int i = 0; i < lane_count; i++) {
        sent += lanes[i].sent;
        wrong += lanes[i].wrong;
        lane_errors += lanes[i].source_error || lanes[i].sink_error;
    }
    for (int i = 0; i < end_count; i++)
        ping_errors += ends[i].error || ends[i].outstanding;
    printf("\"moved\": %llu, \"sent\": %llu, \"got\": %llu, \"wrong\": %llu, "
           "\"lane_errors\": %d, \"trips\": %llu, \"ping_errors\": %d, ",
           (unsigned long long)moved, (unsigned long long)sent, (unsigned long long)arrived(),
           (unsigned long long)wrong, lane_errors, (unsigned long long)trips, ping_errors);
}

int run_streams(const struct plan *told, char **words, int count)
{
    struct snapshot from, to;
    pthread_t source, sink, asker, echoer;
    plan = told;
    parse(words, count);
    uint64_t begun = now_ns();
    if (!plan->warmup)
        take_snapshot(plan, &from);
    if (lane_count) {
        start(&sink, run_sinks);
        start(&source, run_sources);
    }
    if (end_count) {
        if (plan->ping_threads != 1)
            start(&echoer, echo_thread);
        start(&asker, ask_thread);
    }
    if (plan->warmup) {
        sleep_until(begun + plan->warmup);
        take_snapshot(plan, &from);
    }
    uint64_t before = arrived();
    measuring = 1;
    sleep_until(from.when + plan->seconds);
    measuring = 0;
    uint64_t moved = arrived() - before;
    take_snapshot(plan, &to);
    stop = 1;
    if (lane_count) {
        pthread_join(source, NULL);
        sources_done = 1;
        pthread_join(sink, NULL);
    }
    if (end_count) {
        pthread_join(asker, NULL);
        if (plan->ping_threads != 1)
            pthread_join(echoer, NULL);
    }
    printf("{");
    print_totals(moved);
    print_snapshots(plan, &from, &to);
    printf(", ");
    print_samples("trip", &samples);
    printf("}\n");
    free(lanes);
    free(ends);
    free(samples.all);
    return 0;
}
