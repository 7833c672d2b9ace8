/* Calls that wait without a thread (parked.c). What is in here is one owner's at a time: of the list of those that wait
   (under lock), of the watcher while it looks, of the thread that goes on with it. */
#ifndef PYMIRROR_PARKED_H
#define PYMIRROR_PARKED_H

#include "sockets.h"

struct parked {
    TAILQ_ENTRY(parked) entry;
    struct seccomp_notif request;
    struct taken taken;
    void (*go_on)(struct worker *worker, struct parked *call); /* by a thread, when the wait is over */
    struct asked asked;
    struct pm_found found; /* the answer */
    int receives;          /* it waits for something to receive, not for an answer */
    int accepts;           /* for a connection, which is one call's: */
    int watched;           /* and it is the one of its listener that an arrival wakes */
    int thread;            /* a pidfd of who waits so, -1: none */
    int interruptible;     /* a signal for the thread ends the wait */
    int restarts;          /* then the call is made again, so only one that is surely the thread's own may end it */
    long long until;       /* ms of the monotonic clock, 0: no limit */
    int late;              /* the errno it ends with then */
    int code;              /* how it ended: 0, what it waited for is there; else an errno */
    int looked_at, over;   /* by the watcher, just now; before it was done with that */
    long long looked;      /* the turn it was looked at */

    struct pm_name name; /* of a connect, or of a new flow */
    int again, told;     /* it was given up before; what its caller is told, for it is given up now */
    unsigned int done;   /* of recvmmsg and sendmmsg: messages so far */
};

struct parked *pm_parked_new(const struct worker *worker, const struct taken *taken);
void pm_parked_end(struct parked *call);  /* with its descriptor */
void pm_parked_drop(struct parked *call); /* whose descriptor stays the caller's */
void pm_park_asking(struct pm_pump *pump, struct parked *call, const pm_question *question);
int pm_park_receiving(struct pm_pump *pump, struct parked *call); /* 0: there are as many as may be */
void pm_park_next(struct pm_pump *pump, uint64_t socket); /* the watcher is to tell another that accepts from it */
void pm_parked_shed(struct pm_pump *pump); /* the sockets on which nobody waits any more */

#endif
