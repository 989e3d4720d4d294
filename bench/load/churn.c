/* Connect, pair, one byte each way, close: over and over, at most `workers` at a time.
 *
 *   connect=HOST:PORT    where clients connect to; with `slots`, the first of that many ports
 *   listen=FD            the server side accepts here (behind a proxy), or:
 *   dial=1               the server side dials out too, ahead of the client, on each slot's port
 *   slots=N              ports (or, with spread=0, names on one port) used in turn
 *   spread=0|1           whether slot I is at PORT+I, or all are at PORT
 *   client_prefix=TEXT   sent first; a run of 16 '#' becomes a number that both sides of one
 *   server_prefix=TEXT     pair share
 *   client_lines=N       lines that each side is sent before the first byte
 *   server_lines=N
 *   workers=N            default 8
 *
 * One thread, edge-triggered epoll. The client's byte is its worker's number, so that an accepted
 * connection is known by it and a byte that strays is an error. A dialled slot rests for half a
 * turn of all slots before it is dialled again, and waits for another half before it is used:
 * the relay has that long to notice an end and a HELLO, without our asking it. */
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE (5 * SECOND_NS)
#define MOST_WORKERS 200
#define MOST_SLOTS 1024

enum side { CLIENT, SERVER };
enum state { FREE, CONNECTING, LINES, BYTE, LAST }; /* LAST: the server waits for the end */

struct worker;

struct end {
    int fd;
    enum side side;
    enum state state;
    int lines;
    struct worker *worker;
    struct slot *slot;
};

struct slot {
    struct end server;
    uint64_t number;
    int ready;
};

struct worker {
    struct end client;
    struct end *server;
    struct slot *slot;
    uint64_t begun;
    int active, ok;
};

struct fifo {
    struct slot *all[4 * MOST_SLOTS];
    unsigned head, tail;
};

static struct {
    struct sockaddr_in to;
    int listen, dial, slots, spread, workers, client_lines, server_lines;
    const char *client_prefix, *server_prefix;
} told = {.listen = -1, .slots = 1, .spread = 1, .workers = 8, .client_prefix = "",
          .server_prefix = ""};

static struct {
    unsigned long long connect, refused, early_end, reset, wrong_byte, timeout, accept;
} errors;

static struct worker workers[MOST_WORKERS];
static struct slot slots[MOST_SLOTS];
static struct end accepted[4 * MOST_WORKERS];
static struct fifo ready, resting;
static struct samples samples;
static uint64_t next_number = 1, pairs;
static int epoll, measuring, stopping;

static unsigned length(const struct fifo *fifo)
{
    return fifo->tail - fifo->head;
}

static void put(struct fifo *fifo, struct slot *slot)
{
    fifo->all[fifo->tail++ % (4 * MOST_SLOTS)] = slot;
}

static struct slot *take(struct fifo *fifo)
{
    return length(fifo) ? fifo->all[fifo->head++ % (4 * MOST_SLOTS)] : NULL;
}

static void close_end(struct end *end)
{
    if (end->state != FREE)
        close(end->fd);
    end->state = FREE;
    end->fd = -1;
    end->worker = NULL;
}

static void watch_end(struct end *end)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = end};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, end->fd, &event))
        fail("epoll_ctl");
}

static void no_delay(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static int dial(struct end *end, enum side side, struct slot *slot)
{
    struct sockaddr_in to = told.to;
    end->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (end->fd < 0)
        fail("socket");
    end->side = side;
    end->slot = slot;
    end->state = CONNECTING;
    end->lines = side == CLIENT ? told.client_lines : told.server_lines;
    no_delay(end->fd);
    if (slot && told.spread)
        to.sin_port = htons((uint16_t)(ntohs(to.sin_port) + (slot - slots)));
    if (connect(end->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) {
        errors.connect++;
        close_end(end);
        return 0;
    }
    watch_end(end);
    return 1;
}

/* The server side of this slot is gone; the slot rests, then is dialled again. */
static void rest(struct slot *slot)
{
    slot->ready = 0;
    close_end(&slot->server);
    put(&resting, slot);
}

static void dial_slots(void)
{
    while (!stopping && length(&resting) > (unsigned)told.slots / 2) {
        struct slot *slot = take(&resting);
        slot->number = next_number++;
        if (!dial(&slot->server, SERVER, slot)) {
            put(&resting, slot);
            return;
        }
    }
}

static void end_worker(struct worker *worker)
{
    if (worker->ok && measuring)
        pairs++;
    close_end(&worker->client);
    if (worker->server && !worker->slot)
        close_end(worker->server);
    if (worker->slot)
        rest(worker->slot);
    worker->server = NULL;
    worker->slot = NULL;
    worker->active = 0;
}

static void start_worker(struct worker *worker)
{
    struct slot *slot = NULL;
    if (told.dial) {
        do
            slot = take(&ready);
        while (slot && !slot->ready);
        if (!slot)
            return;
        slot->ready = 0;
    }
    worker->ok = 0;
    worker->active = 1;
    worker->slot = slot;
    worker->begun = now_ns();
    worker->client.worker = worker;
    if (slot) {
        worker->server = &slot->server;
        slot->server.worker = worker;
    }
    if (!dial(&worker->client, CLIENT, slot))
        end_worker(worker);
    else
        worker->client.worker = worker;
}

/* Writes the prefix with its number, and the byte with it where nothing comes between. */
static int send_first(struct end *end)
{
    char text[1024];
    int client = end->side == CLIENT;
    size_t size = strlen(client ? told.client_prefix : told.server_prefix);
    memcpy(text, client ? told.client_prefix : told.server_prefix, size + 1);
    char *mark = strstr(text, "################");
    if (mark) {
        char number[17];
        snprintf(number, sizeof number, "%016llx",
                 (unsigned long long)(end->slot ? end->slot->number : 0));
        memcpy(mark, number, 16);
    }
    if (client && !end->lines)
        text[size++] = (char)(end->worker - workers);
    end->state = end->lines ? LINES : BYTE;
    if (!client && told.dial) {
        end->slot->ready = 1;
        put(&ready, end->slot);
    }
    return !size || send(end->fd, text, size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size;
}

/* The connection failed, or ended before its time. */
static void broke(struct end *end)
{
    struct worker *worker = end->worker;
    if (worker) {
        if (worker->active && !worker->ok)
            errors.early_end++;
        end_worker(worker);
    } else if (end->slot) {
        errors.refused++;
        rest(end->slot);
    } else {
        errors.early_end++;
        close_end(end);
    }
}

/* One byte of the session; false when the end is done with or gone. */
static int take_byte(struct end *end, unsigned char byte)
{
    if (end->side == CLIENT) {
        struct worker *worker = end->worker;
        if (byte != (unsigned char)(worker - workers)) {
            errors.wrong_byte++;
            end_worker(worker);
            return 0;
        }
        worker->ok = 1;
        if (measuring)
            add_sample(&samples, now_ns() - worker->begun);
        close_end(end); /* the server will see the end of the stream, and close too */
        return 0;
    }
    if (!end->worker) { /* accepted: the byte says whose it is */
        if (byte >= told.workers || !workers[byte].active || workers[byte].server) {
            errors.wrong_byte++;
            close_end(end);
            return 0;
        }
        end->worker = &workers[byte];
        end->worker->server = end;
    } else if (byte != (unsigned char)(end->worker - workers)) {
        errors.wrong_byte++;
    }
    end->state = LAST;
    if (send(end->fd, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1) {
        broke(end);
        return 0;
    }
    return 1;
}

static void receive(struct end *end)
{
    unsigned char buffer[2048];
    while (end->state != FREE) {
        /* While lines come, never beyond the newline: byte by byte is enough for one or two. */
        size_t most = end->state == LINES ? 1 : sizeof buffer;
        ssize_t n = recv(end->fd, buffer, most, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            struct worker *worker = end->worker;
            if (end->state == LAST && worker && worker->ok) {
                errors.reset += n < 0; /* the client ended in order, and so should this */
                end_worker(worker);
            } else {
                broke(end);
            }
            return;
        }
        if (end->state == LINES) {
            if (buffer[0] != '\n' || --end->lines)
                continue;
            end->state = BYTE;
            if (end->side == CLIENT) {
                unsigned char byte = (unsigned char)(end->worker - workers);
                if (send(end->fd, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1)
                    broke(end);
            }
        } else if (n > 1 || end->state == LAST) {
            errors.wrong_byte++;
            broke(end);
        } else if (!take_byte(end, buffer[0])) {
            return;
        }
    }
}

static void accept_all(void)
{
    for (;;) {
        int fd = accept4(told.listen, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        struct end *end = accepted;
        while (end < accepted + 4 * MOST_WORKERS && end->state != FREE)
            end++;
        if (end == accepted + 4 * MOST_WORKERS) {
            errors.accept++;
            close(fd);
            continue;
        }
        *end = (struct end){fd, SERVER, BYTE, 0, NULL, NULL};
        no_delay(fd);
        watch_end(end);
    }
}

static void handle(struct end *end, uint32_t events)
{
    if (end->state == FREE)
        return; /* closed earlier in this batch */
    if (end->state == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(end->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) {
            errors.connect++;
            broke(end);
            return;
        }
        if (!(events & EPOLLOUT))
            return;
        if (!send_first(end)) {
            broke(end);
            return;
        }
    }
    receive(end);
}

static void time_out(void)
{
    uint64_t now = now_ns();
    for (int i = 0; i < told.workers; i++) {
        if (workers[i].active && now - workers[i].begun > PATIENCE) {
            errors.timeout++;
            end_worker(&workers[i]);
        }
    }
}

static int parse(char *word)
{
    char *value = strchr(word, '=');
    if (!value)
        return 0;
    *value++ = 0;
    if (!strcmp(word, "connect")) {
        char *colon = strrchr(value, ':');
        if (!colon)
            return 0;
        *colon++ = 0;
        told.to.sin_family = AF_INET;
        told.to.sin_port = htons((uint16_t)atoi(colon));
        return inet_pton(AF_INET, value, &told.to.sin_addr) == 1;
    }
    const struct {
        const char *name;
        int *into, least, most;
    } numbers[] = {{"listen", &told.listen, 0, 1 << 20},
                   {"dial", &told.dial, 0, 1},
                   {"slots", &told.slots, 1, MOST_SLOTS},
                   {"spread", &told.spread, 0, 1},
                   {"workers", &told.workers, 1, MOST_WORKERS},
                   {"client_lines", &told.client_lines, 0, 9},
                   {"server_lines", &told.server_lines, 0, 9}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (!strcmp(word, numbers[i].name)) {
            *numbers[i].into = atoi(value);
            return *numbers[i].into >= numbers[i].least && *numbers[i].into <= numbers[i].most;
        }
    }
    if (strlen(value) > 900)
        return 0;
    if (!strcmp(word, "client_prefix"))
        told.client_prefix = value;
    else if (!strcmp(word, "server_prefix"))
        told.server_prefix = value;
    else
        return 0;
    return 1;
}

static void turn(int may_start)
{
    struct epoll_event events[64];
    dial_slots();
    for (int i = 0; may_start && i < told.workers; i++)
        if (!workers[i].active)
            start_worker(&workers[i]);
    int n = epoll_wait(epoll, events, 64, 10);
    for (int i = 0; i < n; i++) {
        if (events[i].data.ptr)
            handle(events[i].data.ptr, events[i].events);
        else
            accept_all();
    }
    time_out();
}

static int any_active(void)
{
    for (int i = 0; i < told.workers; i++)
        if (workers[i].active)
            return 1;
    return 0;
}

int run_churn(const struct plan *plan, char **words, int count)
{
    struct snapshot from, to;
    for (int i = 0; i < count; i++) {
        if (!parse(words[i])) {
            fprintf(stderr, "load: cannot use %s\n", words[i]);
            return 2;
        }
    }
    if ((epoll = epoll_create1(EPOLL_CLOEXEC)) < 0)
        fail("epoll_create1");
    if (told.listen >= 0) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, told.listen, &event))
            fail("epoll_ctl");
    }
    for (int i = 0; told.dial && i < told.slots; i++)
        put(&resting, &slots[i]);
    uint64_t begun = now_ns();
    while (now_ns() < begun + SECOND_NS / 4) /* the first of those that wait are there */
        turn(0);
    begun = now_ns();
    while (now_ns() < begun + plan->warmup)
        turn(1);
    take_snapshot(plan, &from);
    measuring = 1;
    while (now_ns() < from.when + plan->seconds)
        turn(1);
    measuring = 0;
    take_snapshot(plan, &to);
    stopping = 1;
    for (uint64_t until = now_ns() + 2 * SECOND_NS; any_active() && now_ns() < until;)
        turn(0);
    for (int i = 0; i < told.workers; i++)
        errors.timeout += (unsigned)workers[i].active;
    printf("{\"pairs\": %llu, \"errors\": {\"connect\": %llu, \"refused\": %llu, "
           "\"early_end\": %llu, \"reset\": %llu, \"wrong_byte\": %llu, \"timeout\": %llu, "
           "\"accept\": %llu}, ",
           (unsigned long long)pairs, errors.connect, errors.refused, errors.early_end,
           errors.reset, errors.wrong_byte, errors.timeout, errors.accept);
    print_snapshots(plan, &from, &to);
    printf(", ");
    print_samples("pair", &samples);
    printf("}\n");
    free(samples.all);
    return 0;
}
