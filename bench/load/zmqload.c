/* Load generator for ZeroMQ: sources and sinks on libzmq, joined by whatever is between them.
 *
 *   zmqload [OPTION...] PATTERN SOURCE_ENDPOINT SINK_ENDPOINT
 *
 * PATTERN is push_pull (sources push as fast as they may, sinks count) or req_rep (sources ask and
 * wait for each answer). An endpoint is connected to, or bound where a + stands before it. Each
 * socket has a thread of its own, and each side a context of its own, as if it were a program by
 * itself. Every message has its source and its number in front; both sides add these up, and the
 * sums must be equal. It prints one JSON object: counts are of the whole run, rates, times and CPU
 * of what lies between warmup and end.
 */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <zmq.h>

#define MOST_CLIENTS 64
#define LOOK_MS 50

struct head {
    uint64_t source, number;
};

struct client {
    void *socket;
    pthread_t thread;
    uint64_t index, messages, sum, wrong, window;
};

static struct {
    struct plan plan;
    int size, clients, hwm, asks;
} told = {.plan = {SECOND_NS / 2, 3 * SECOND_NS, 5 * SECOND_NS, 0, 0, 1, {0}, 0},
          .size = 1024, .clients = 1, .hwm = 1000};

static struct client sources[MOST_CLIENTS], sinks[MOST_CLIENTS];
static uint64_t received, begin_ns, from_ns, until_ns; /* set before begin_ns is */
static int stop_receiving;
static struct samples trips;

static _Noreturn void zmq_fail(const char *what)
{
    fprintf(stderr, "zmqload: %s: %s\n", what, zmq_strerror(zmq_errno()));
    exit(1);
}

static uint64_t mixed(const struct head *head)
{
    return (head->number + 1) * 0x9e3779b97f4a7c15ull ^ (head->source << 56);
}

static void *made(void *context, int type, const char *endpoint)
{
    void *socket = zmq_socket(context, type);
    const int now = 0, look = LOOK_MS;
    if (!socket || zmq_setsockopt(socket, ZMQ_LINGER, &now, sizeof now) ||
        zmq_setsockopt(socket, ZMQ_SNDHWM, &told.hwm, sizeof told.hwm) ||
        zmq_setsockopt(socket, ZMQ_RCVHWM, &told.hwm, sizeof told.hwm) ||
        zmq_setsockopt(socket, ZMQ_SNDTIMEO, &look, sizeof look) ||
        zmq_setsockopt(socket, ZMQ_RCVTIMEO, &look, sizeof look))
        zmq_fail("socket");
    if (*endpoint == '+' ? zmq_bind(socket, endpoint + 1) : zmq_connect(socket, endpoint))
        zmq_fail(endpoint);
    return socket;
}

/* Whether it was sent; content behind the head is as it comes, nobody looks at it. */
static int sent(struct client *self)
{
    const struct head head = {self->index, self->messages};
    zmq_msg_t message;
    if (zmq_msg_init_size(&message, (size_t)told.size))
        zmq_fail("message");
    memcpy(zmq_msg_data(&message), &head, sizeof head);
    if (zmq_msg_send(&message, self->socket, 0) < 0) {
        if (zmq_errno() != EAGAIN)
            zmq_fail("send");
        zmq_msg_close(&message);
        return 0;
    }
    self->sum += mixed(&head);
    self->messages++;
    return 1;
}

/* Whether one came, and its head. */
static int got(struct client *self, struct head *head)
{
    zmq_msg_t message;
    zmq_msg_init(&message);
    const int size = zmq_msg_recv(&message, self->socket, 0);
    if (size < 0) {
        if (zmq_errno() != EAGAIN)
            zmq_fail("receive");
        zmq_msg_close(&message);
        return 0;
    }
    if (size == told.size)
        memcpy(head, zmq_msg_data(&message), sizeof *head);
    else
        self->wrong++;
    zmq_msg_close(&message);
    return size == told.size;
}

static uint64_t begins(void)
{
    return __atomic_load_n(&begin_ns, __ATOMIC_ACQUIRE);
}

/* The first message of each goes at once and shows that it is connected; the rest wait. */
static void *push(void *argument)
{
    struct client *self = argument;
    while (!sent(self)) {
    }
    while (!begins())
        sleep_until(now_ns() + SECOND_NS / 1000);
    while (now_ns() < until_ns)
        for (int i = 0; i < 16; i++)
            sent(self);
    return NULL;
}

static void *ask(void *argument)
{
    struct client *self = argument;
    struct head head;
    for (int first = 1; first || now_ns() < until_ns; first = 0) {
        const uint64_t asked = now_ns();
        while (!sent(self)) {
        }
        while (!got(self, &head)) {
        }
        const uint64_t answered = now_ns();
        if (head.source != self->index || head.number != self->messages - 1)
            self->wrong++;
        if (!first && asked >= from_ns && answered < until_ns) {
            self->window++;
            if (told.clients == 1)
                add_sample(&trips, answered - asked);
        }
        while (first && !begins())
            sleep_until(now_ns() + SECOND_NS / 1000);
    }
    return NULL;
}

static void *take(void *argument)
{
    struct client *self = argument;
    struct head head;
    uint64_t next = 0;
    while (!__atomic_load_n(&stop_receiving, __ATOMIC_RELAXED)) {
        if (!got(self, &head))
            continue;
        if (told.clients == 1 && head.number != next++)
            self->wrong++;
        self->sum += mixed(&head);
        self->messages++;
        __atomic_add_fetch(&received, 1, __ATOMIC_RELAXED);
        if (told.asks) {
            zmq_msg_t answer;
            zmq_msg_init_size(&answer, (size_t)told.size);
            memcpy(zmq_msg_data(&answer), &head, sizeof head);
            while (zmq_msg_send(&answer, self->socket, 0) < 0)
                if (zmq_errno() != EAGAIN)
                    zmq_fail("answer");
        } else if (begins()) {
            const uint64_t now = now_ns();
            self->window += now >= from_ns && now < until_ns;
        }
    }
    return NULL;
}

static void until_received(uint64_t wanted, uint64_t patience)
{
    uint64_t seen = __atomic_load_n(&received, __ATOMIC_RELAXED), since = now_ns();
    for (;;) {
        const uint64_t now_received = __atomic_load_n(&received, __ATOMIC_RELAXED);
        if (now_received >= wanted)
            return;
        if (now_received != seen) {
            seen = now_received;
            since = now_ns();
        } else if (now_ns() - since > patience) {
            return;
        }
        sleep_until(now_ns() + SECOND_NS / 200);
    }
}

static void read_options(int argc, char **argv)
{
    static const struct option options[] = {
        {"warmup", 1, NULL, 'w'}, {"seconds", 1, NULL, 's'}, {"watch", 1, NULL, 'p'},
        {"size", 1, NULL, 'z'},   {"clients", 1, NULL, 'c'}, {"hwm", 1, NULL, 'h'},
        {NULL, 0, NULL, 0}};
    int letter;
    while ((letter = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (letter) {
        case 'w': told.plan.warmup = to_ns(optarg); break;
        case 's': told.plan.seconds = to_ns(optarg); break;
        case 'p': watch(&told.plan, optarg); break;
        case 'z': told.size = atoi(optarg); break;
        case 'c': told.clients = atoi(optarg); break;
        case 'h': told.hwm = atoi(optarg); break;
        default: exit(2);
        }
    }
    if (argc - optind != 3 || told.size < (int)sizeof(struct head) || told.clients < 1 ||
        told.clients > MOST_CLIENTS)
        exit(2);
    told.asks = !strcmp(argv[optind], "req_rep");
    if (!told.asks && strcmp(argv[optind], "push_pull"))
        exit(2);
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlive the driver */
    alarm((unsigned)((told.plan.warmup + told.plan.seconds) / SECOND_NS) + 60);
    void *source_side = zmq_ctx_new(), *sink_side = zmq_ctx_new();
    for (int i = 0; i < told.clients; i++) {
        sinks[i].socket = made(sink_side, told.asks ? ZMQ_REP : ZMQ_PULL, argv[optind + 2]);
        sinks[i].index = (uint64_t)i;
        if (pthread_create(&sinks[i].thread, NULL, take, &sinks[i]))
            fail("thread");
    }
    sleep_until(now_ns() + SECOND_NS / 5);
    for (int i = 0; i < told.clients; i++) {
        sources[i].socket = made(source_side, told.asks ? ZMQ_REQ : ZMQ_PUSH, argv[optind + 1]);
        sources[i].index = (uint64_t)i;
        if (pthread_create(&sources[i].thread, NULL, told.asks ? ask : push, &sources[i]))
            fail("thread");
    }
    until_received((uint64_t)told.clients, 20 * SECOND_NS);
    if (received < (uint64_t)told.clients) {
        fprintf(stderr, "zmqload: %lu of %d first messages came\n", received, told.clients);
        return 1;
    }
    const uint64_t begin = now_ns() + SECOND_NS / 10;
    from_ns = begin + told.plan.warmup;
    until_ns = from_ns + told.plan.seconds;
    sleep_until(begin);
    __atomic_store_n(&begin_ns, begin, __ATOMIC_RELEASE);
    struct snapshot from, to;
    sleep_until(from_ns);
    take_snapshot(&told.plan, &from);
    sleep_until(until_ns);
    take_snapshot(&told.plan, &to);
    uint64_t out = 0, in = 0, out_sum = 0, in_sum = 0, wrong = 0, window = 0;
    for (int i = 0; i < told.clients; i++) {
        pthread_join(sources[i].thread, NULL);
        out += sources[i].messages;
        out_sum += sources[i].sum;
    }
    until_received(out, told.plan.drain);
    __atomic_store_n(&stop_receiving, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < told.clients; i++) {
        pthread_join(sinks[i].thread, NULL);
        in += sinks[i].messages;
        in_sum += sinks[i].sum;
        wrong += sinks[i].wrong + sources[i].wrong;
        window += sinks[i].window + sources[i].window;
    }
    printf("{\"sent\": %lu, \"received\": %lu, \"wrong\": %lu, \"same\": %s, \"window\": %lu, ",
           out, in, wrong, in_sum == out_sum ? "true" : "false", window);
    print_snapshots(&told.plan, &from, &to);
    printf(", ");
    print_samples("trips", &trips);
    printf("}\n");
    return 0;
}
