/* What the parts of the load generator share. It moves bytes over sockets that it is given and
 * knows no protocol: whoever starts it has connected them. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stdint.h>
#include <stdio.h>

#define SECOND_NS 1000000000ull

/* How long and whom to watch; times in nanoseconds. */
struct plan {
    uint64_t warmup, seconds, drain;
    int stall;        /* sinks do not read before the sources have stopped */
    int verify;       /* compare every byte that arrives with what was sent */
    int ping_threads; /* 1: both ends of the ping-pongs in one thread; 2: one each */
    int watched[32];  /* processes whose CPU time and memory are reported */
    int watched_count;
};

/* What the watched processes, and this one, had used at one moment. */
struct snapshot {
    uint64_t when, cpu, own_cpu;
    long resident_kib;
};

/* Durations in nanoseconds, at most 4.29 s each, kept whole so that percentiles are exact. */
struct samples {
    uint32_t *all;
    size_t count, room;
};

uint64_t now_ns(void);
void sleep_until(uint64_t when);
void take_snapshot(const struct plan *plan, struct snapshot *into);
void print_snapshots(const struct plan *plan, const struct snapshot *from,
                     const struct snapshot *to);
void add_sample(struct samples *samples, uint64_t ns);
void print_samples(const char *name, struct samples *samples);
_Noreturn void fail(const char *what);
uint64_t to_ns(const char *text);
void watch(struct plan *plan, char *pids);

int run_streams(const struct plan *plan, char **lanes, int count);
int run_churn(const struct plan *plan, char **words, int count);

#endif
