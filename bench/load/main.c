/* Load generator of the bench: parses the command line.
 *
 *   load [OPTION...] streams LANE...     LANE: flood:SOURCE_FD:SINK_FD or ping:FD:FD
 *   load [OPTION...] churn KEY=VALUE...  see churn.c
 */
#define _GNU_SOURCE
#include "load.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"warmup", 1, NULL, 'w'}, {"seconds", 1, NULL, 's'}, {"drain", 1, NULL, 'd'},
        {"stall", 0, NULL, 'S'},  {"verify", 0, NULL, 'v'},  {"watch", 1, NULL, 'p'},
        {"ping-threads", 1, NULL, 'j'}, {NULL, 0, NULL, 0}};
    struct plan plan = {SECOND_NS / 2, 3 * SECOND_NS, 10 * SECOND_NS, 0, 0, 1, {0}, 0};
    int letter;
    while ((letter = getopt_long(argc, argv, "+", options, NULL)) != -1) {
        switch (letter) {
        case 'w': plan.warmup = to_ns(optarg); break;
        case 's': plan.seconds = to_ns(optarg); break;
        case 'd': plan.drain = to_ns(optarg); break;
        case 'S': plan.stall = 1; break;
        case 'v': plan.verify = 1; break;
        case 'j': plan.ping_threads = atoi(optarg); break;
        case 'p': watch(&plan, optarg); break;
        default: return 2;
        }
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlive the driver */
    signal(SIGPIPE, SIG_IGN);
    if (optind < argc && !strcmp(argv[optind], "streams"))
        return run_streams(&plan, argv + optind + 1, argc - optind - 1);
    if (optind < argc && !strcmp(argv[optind], "churn"))
        return run_churn(&plan, argv + optind + 1, argc - optind - 1);
    fprintf(stderr, "load: say streams or churn\n");
    return 2;
}
