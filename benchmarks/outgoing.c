/* The two ends that benchmarks/outgoing.py measures between. `outgoing serve` prints its port, serves TCP and
   UDP on it, and ends with its stdin; `outgoing MEASURE PORT` prints one figure. A TCP connection begins
   with one letter: c close, s sink (of as many bytes as the next eight say, then one is answered; no half-close,
   which neither toxiproxy nor kubectl port-forward carries), d source without an end, e echo. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BLOCK (256 << 10)
#define TOTAL (256l << 20)
#define STREAMS 8
#define ENOUGH 3.0 /* seconds: what takes a round trip each is repeated no longer */

static char block[BLOCK];
static struct sockaddr_in address = {.sin_family = AF_INET};

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void *serve_one(void *given)
{
    int fd = (int)(long)given;
    char kind = 'c', *mine = malloc(BLOCK);
    ssize_t size;
    long left;

    recv(fd, &kind, 1, 0);
    if (kind == 's' && recv(fd, &left, sizeof left, MSG_WAITALL) == sizeof left) {
        while (left > 0 && (size = recv(fd, mine, BLOCK, 0)) > 0)
            left -= size;
        send(fd, "x", 1, MSG_NOSIGNAL);
    }
    while (kind == 'd' && send(fd, block, BLOCK, MSG_NOSIGNAL) > 0)
        ;
    while (kind == 'e' && (size = recv(fd, mine, BLOCK, 0)) > 0)
        send(fd, mine, (size_t)size, MSG_NOSIGNAL);
    free(mine);
    close(fd);
    return NULL;
}

static void *serve_udp(void *given)
{
    int fd = (int)(long)given;
    char data[2048];

    for (;;) {
        struct sockaddr_in from;
        socklen_t length = sizeof from;
        ssize_t size = recvfrom(fd, data, sizeof data, 0, (void *)&from, &length);

        if (size >= 0)
            sendto(fd, data, (size_t)size, 0, (void *)&from, length);
    }
    return NULL;
}

static void *accept_all(void *given)
{
    pthread_t thread;

    for (;;) {
        int fd = accept((int)(long)given, NULL, NULL);

        if (fd >= 0 && pthread_create(&thread, NULL, serve_one, (void *)(long)fd) == 0)
            pthread_detach(thread);
    }
    return NULL;
}

static int serve(void)
{
    int tcp = socket(AF_INET, SOCK_STREAM, 0), udp = socket(AF_INET, SOCK_DGRAM, 0);
    socklen_t size = sizeof address;
    pthread_t thread;

    if (bind(tcp, (void *)&address, size) || listen(tcp, 4096) || getsockname(tcp, (void *)&address, &size) ||
        bind(udp, (void *)&address, size))
        return 1;
    pthread_create(&thread, NULL, accept_all, (void *)(long)tcp);
    pthread_create(&thread, NULL, serve_udp, (void *)(long)udp);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return getchar() == EOF ? 0 : 1;
}

static int dial(char kind)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (connect(fd, (void *)&address, sizeof address)) {
        perror("connect");
        exit(1);
    }
    send(fd, &kind, kind != 0, 0);
    return fd;
}

static int by_size(const void *one, const void *other)
{
    double a = *(const double *)one, b = *(const double *)other;

    return (a > b) - (a < b);
}

/* Microseconds of one connect, and of one byte there and back on it if asked; the median. */
static double median(int byte)
{
    static double took[500];
    double first = now();
    int i = 0;

    while (i < 500 && now() - first < ENOUGH) {
        double began = now();
        int fd = dial(byte ? 'e' : 0);
        char data = 0;

        if (byte && (send(fd, &data, 1, 0) != 1 || recv(fd, &data, 1, 0) != 1))
            exit(1);
        took[i++] = (now() - began) * 1e6;
        close(fd);
    }
    qsort(took, (size_t)i, sizeof *took, by_size);
    return took[i / 2];
}

static double latency(void) { return median(0); }
static double begin(void) { return median(1); }

static void *connections(void *given)
{
    char data;

    for (int i = 0; i < 100; i++) {
        int fd = dial('e');

        send(fd, "x", 1, 0);
        recv(fd, &data, 1, 0);
        close(fd);
    }
    return given;
}

/* Connections a second, each with one byte there and back, from 20 threads. */
static double rate(void)
{
    pthread_t threads[20];
    double began = now();

    for (int i = 0; i < 20; i++)
        pthread_create(&threads[i], NULL, connections, NULL);
    for (int i = 0; i < 20; i++)
        pthread_join(threads[i], NULL);
    return 2000 / (now() - began);
}

static void *upward(void *given)
{
    int fd = dial('s');
    char end;

    send(fd, given, sizeof(long), 0);
    for (long left = *(long *)given; left > 0; left -= BLOCK)
        if (send(fd, block, BLOCK, 0) != BLOCK)
            exit(1);
    if (recv(fd, &end, 1, 0) != 1)
        exit(1);
    close(fd);
    return NULL;
}

static void *downward(void *given)
{
    int fd = dial('d');
    char *mine = malloc(BLOCK);

    for (long left = *(long *)given; left > 0;) {
        ssize_t size = recv(fd, mine, BLOCK, 0);

        if (size <= 0)
            exit(1);
        left -= size;
    }
    free(mine);
    close(fd);
    return NULL;
}

/* MB/s of so many connections together, from the first connect to the last byte. */
static double throughput(int streams, void *(*way)(void *))
{
    pthread_t threads[STREAMS];
    long each = TOTAL / streams;
    double began = now();

    for (int i = 0; i < streams; i++)
        pthread_create(&threads[i], NULL, way, &each);
    for (int i = 0; i < streams; i++)
        pthread_join(threads[i], NULL);
    return (double)TOTAL / (now() - began) / 1e6;
}

static double up(void) { return throughput(1, upward); }
static double down(void) { return throughput(1, downward); }
static double up_together(void) { return throughput(STREAMS, upward); }
static double down_together(void) { return throughput(STREAMS, downward); }

/* Microseconds of one byte there and back on one connection. */
static double ping(void)
{
    int fd = dial('e');
    double began;
    int i = 0;

    send(fd, "x", 1, 0);
    recv(fd, block, 1, 0);
    for (began = now(); i < 2000 && now() - began < ENOUGH; i++) {
        send(fd, "x", 1, 0);
        recv(fd, block, 1, 0);
    }
    return (now() - began) * 1e6 / i;
}

/* Datagrams of 100 bytes a second, there and back, 32 under way; with an address in each call or connected. */
static double datagrams(int connected)
{
    int fd = socket(AF_INET, SOCK_DGRAM, 0), sent = 0, got = 0;
    struct timeval limit = {0, 200000};
    struct sockaddr_in from;
    double began = now();

    if (connected && connect(fd, (void *)&address, sizeof address))
        exit(1);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    while (got < 20000) {
        socklen_t size = sizeof from;

        for (; sent - got < 32; sent++)
            connected ? send(fd, block, 100, 0)
                      : sendto(fd, block, 100, 0, (void *)&address, sizeof address);
        if ((connected ? recv(fd, block, 100, 0) : recvfrom(fd, block, 100, 0, (void *)&from, &size)) > 0)
            got++;
        else
            sent = got; /* some were lost */
    }
    return got / (now() - began);
}

static double datagrams_connected(void) { return datagrams(1); }
static double datagrams_unconnected(void) { return datagrams(0); }

/* Microseconds of a sendmsg and a recvmsg on a TCP connection of this machine. */
static double messages(void)
{
    int pair[2];
    struct iovec part = {block, 1};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    double began;

    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    began = now();
    for (int i = 0; i < 20000; i++) {
        sendmsg(pair[0], &header, 0);
        recvmsg(pair[1], &header, 0);
    }
    return (now() - began) * 1e6 / 20000;
}

static const struct { const char *name; double (*measure)(void); } MEASURES[] = {
    {"latency", latency}, {"begin", begin}, {"rate", rate}, {"ping", ping}, {"messages", messages},
    {"up", up}, {"down", down}, {"up8", up_together}, {"down8", down_together},
    {"connected", datagrams_connected}, {"unconnected", datagrams_unconnected},
};

int main(int count, char **words)
{
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    if (count < 3)
        return serve();
    address.sin_port = htons((unsigned short)atoi(words[2]));
    for (size_t i = 0; i < sizeof MEASURES / sizeof *MEASURES; i++)
        if (strcmp(MEASURES[i].name, words[1]) == 0)
            printf("%f\n", MEASURES[i].measure());
    return 0;
}
