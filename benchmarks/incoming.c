/* incoming WHAT COUNT: microseconds per call, the median of ten rounds, as a program with a listener of its own that
   connects to itself. WHAT: peername, sockname (of an accepted socket), accept (with an address, of a connection
   that has arrived), silent (without an address), listener (getsockname of the listener), bind (socket, bind and close). */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 10

static struct sockaddr_in own = {.sin_family = AF_INET};
static int listener, accepted;

static double now(void)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec * 1e6 + (double)at.tv_nsec / 1e3;
}

static int dial(void)
{
    struct sockaddr_in to;
    socklen_t size = sizeof to;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    getsockname(listener, (void *)&to, &size);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (void *)&to, sizeof to))
        exit(1);
    return fd;
}

static int bound(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;

    own.sin_port = htons((unsigned short)port);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (void *)&own, sizeof own))
        exit(1);
    return fd;
}

/* Microseconds of one. */
static double once(const char *what)
{
    struct sockaddr_storage name;
    socklen_t size = sizeof name;
    int takes = what[0] == 'a' || !strcmp(what, "silent"), near = takes ? dial() : -1, made = -1;
    double began = now(), took;

    if (!strcmp(what, "peername"))
        getpeername(accepted, (void *)&name, &size);
    else if (!strcmp(what, "sockname"))
        getsockname(accepted, (void *)&name, &size);
    else if (!strcmp(what, "listener"))
        getsockname(listener, (void *)&name, &size);
    else if (!strcmp(what, "bind"))
        close(bound(20081));
    else
        made = what[0] == 'a' ? accept(listener, (void *)&name, &size) : accept(listener, NULL, NULL);
    took = now() - began;
    if (takes) {
        close(near);
        close(made);
    }
    return took;
}

static int order(const void *one, const void *other)
{
    double difference = *(const double *)one - *(const double *)other;

    return (difference > 0) - (difference < 0);
}

int main(int count, char **words)
{
    double taken[ROUNDS] = {0};
    int calls = count > 2 ? atoi(words[2]) : 1000, near;

    if (count < 2)
        return 2;
    listener = bound(20080);
    if (listen(listener, 128))
        return 1;
    near = dial();
    accepted = accept(listener, NULL, NULL);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < calls; i++)
            taken[round] += once(words[1]);
        taken[round] /= calls;
    }
    close(near);
    qsort(taken, ROUNDS, sizeof *taken, order);
    printf("%.3f\n", taken[ROUNDS / 2]);
    return 0;
}
