/* calls WHAT PATH COUNT: nanoseconds per call, the median of ten rounds. WHAT: open (with close), stat, goto (chdir),
   getppid (never caught), descriptor (fstat of standard output), fresh (a stat of PATH.N, each N once). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 10

static long now(void)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000L + at.tv_nsec;
}

static void once(const char *what, const char *path, int number)
{
    struct stat got;
    char name[4096];
    int ignored;

    if (what[0] == 'o') {
        close(open(path, O_RDONLY));
    } else if (what[0] == 's') {
        stat(path, &got);
    } else if (what[0] == 'g' && what[1] == 'o') {
        ignored = chdir(path);
    } else if (what[0] == 'f') {
        snprintf(name, sizeof name, "%s.%d", path, number);
        stat(name, &got);
    } else if (what[0] == 'd') {
        syscall(SYS_newfstatat, STDOUT_FILENO, "", &got, AT_EMPTY_PATH); /* newer C libraries have another */
    } else {
        getppid();
    }
}

static int order(const void *one, const void *other)
{
    double difference = *(const double *)one - *(const double *)other;

    return (difference > 0) - (difference < 0);
}

int main(int count, char **words)
{
    double taken[ROUNDS];
    int calls = count > 3 ? atoi(words[3]) : 1000, number = 0;

    if (count < 3)
        return 2;
    once(words[1], words[2], -1);
    for (int round = 0; round < ROUNDS; round++) {
        long start = now();

        for (int i = 0; i < calls; i++)
            once(words[1], words[2], number++);
        taken[round] = (double)(now() - start) / calls;
    }
    qsort(taken, ROUNDS, sizeof *taken, order);
    printf("%.0f\n", taken[ROUNDS / 2]);
    return 0;
}
