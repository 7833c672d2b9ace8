/* The pump's inside, for the files that share it: pump.c (threads, the door), questions.c (to Python) and decide.c
   (from a notification to its verdict). A worker belongs to one thread; what others touch is under lock. */
#ifndef PYMIRROR_PUMP_H
#define PYMIRROR_PUMP_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "parts.h"

#define MOST_WORKERS 256

struct worker {
    struct pm_pump *pump;
    pthread_t thread;
    pthread_cond_t replied;
    struct worker *next; /* in the queue of questions */
    pm_question question;
    unsigned int turn; /* tells a late reply from a fresh one */
    int open;          /* a question that waits for its reply */
    int (*look)(struct worker *worker); /* while it waits: the errno to give up with, 0 to go on; may be NULL */
    int gave_up;       /* it has: there was no reply */
    long long until;   /* ms of the monotonic clock, for look(); 0: no limit */
    int at_door;
    struct seccomp_notif request;
    struct pm_job job;
};

struct pm_pump {
    int listener;
    int event;
    int root; /* our own */
    uint64_t network; /* the cookie of our network namespace */
    struct pm_rights own;
    char **skip;
    int skips;
    struct pm_table *table;
    struct pm_trees *trees;
    struct pm_names *names;
    pthread_mutex_t lock; /* workers, the queue, questions */
    struct worker *workers[MOST_WORKERS];
    int count;
    struct worker *first, *last;
    sem_t door; /* one may pass; a condition would cost two wake-ups more for each call that is carried out */
    atomic_int waiting, alive, stopping;
    atomic_llong counters[PM_COUNTERS];
};

void pm_ask(struct worker *worker);        /* put job's question to Python; its verdict is in job.found */
void pm_put(struct worker *worker, const pm_question *question); /* the same with a question of one's own */
void pm_leave_door(struct worker *worker); /* before what may take long */
void pm_serve(struct worker *worker);      /* one notification, to its answer */
void pm_serve_socket(struct worker *worker); /* sockets.c: the same for calls on sockets */
void pm_leave_alone(struct worker *worker);

#endif
