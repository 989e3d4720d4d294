/* Keeps time, watches processes, prints JSON: shared by both load generators. */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

_Noreturn void fail(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

void sleep_until(uint64_t when)
{
    struct timespec t = {(time_t)(when / SECOND_NS), (long)(when % SECOND_NS)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) {
    }
}

/* The CPU clock of a process is utime + stime of its threads, dead ones too, in nanoseconds. */
static uint64_t cpu_ns(int pid)
{
    clockid_t clock;
    struct timespec t;
    if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &t))
        return 0;
    return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

static long resident_kib(int pid)
{
    char path[64], line[256];
    long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "VmRSS: %ld", &kib) == 1)
            break;
    fclose(file);
    return kib;
}

void take_snapshot(const struct plan *plan, struct snapshot *into)
{
    memset(into, 0, sizeof *into);
    for (int i = 0; i < plan->watched_count; i++) {
        into->cpu += cpu_ns(plan->watched[i]);
        into->resident_kib += resident_kib(plan->watched[i]);
    }
    into->own_cpu = cpu_ns(0);
    into->when = now_ns();
}

void print_snapshots(const struct plan *plan, const struct snapshot *from,
                     const struct snapshot *to)
{
    (void)plan;
    printf("\"seconds\": %.6f, \"cpu\": %.6f, \"load_cpu\": %.6f, "
           "\"resident_kib\": [%ld, %ld]",
           (double)(to->when - from->when) / 1e9, (double)(to->cpu - from->cpu) / 1e9,
           (double)(to->own_cpu - from->own_cpu) / 1e9, from->resident_kib, to->resident_kib);
}

void add_sample(struct samples *samples, uint64_t ns)
{
    if (samples->count == samples->room) {
        samples->room = samples->room ? samples->room * 2 : 1u << 16;
        samples->all = realloc(samples->all, samples->room * sizeof *samples->all);
        if (!samples->all)
            fail("samples");
    }
    samples->all[samples->count++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double percentile_us(const struct samples *samples, double share)
{
    if (!samples->count)
        return 0;
    size_t index = (size_t)(share * (double)samples->count);
    return samples->all[index < samples->count ? index : samples->count - 1] / 1e3;
}

void print_samples(const char *name, struct samples *samples)
{
    qsort(samples->all, samples->count, sizeof *samples->all, by_size);
    printf("\"%s\": {\"count\": %zu, \"p50_us\": %.2f, \"p99_us\": %.2f, \"p999_us\": %.2f, "
           "\"max_us\": %.2f}",
           name, samples->count, percentile_us(samples, 0.5), percentile_us(samples, 0.99),
           percentile_us(samples, 0.999), percentile_us(samples, 1));
}

uint64_t to_ns(const char *text)
{
    return (uint64_t)(strtod(text, NULL) * 1e9);
}

void watch(struct plan *plan, char *pids)
{
    const int room = (int)(sizeof plan->watched / sizeof *plan->watched);
    for (char *pid = strtok(pids, ","); pid && plan->watched_count < room; pid = strtok(NULL, ","))
        plan->watched[plan->watched_count++] = atoi(pid);
}
