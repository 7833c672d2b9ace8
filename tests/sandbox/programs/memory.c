/* The C part's writing to another process's memory, tried: memory → one line per case. A pid that has
   been given up must not be written to, whoever may have it next, so the process ends in between. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "parts.h"

static volatile char *shared; /* the child says by it what it sees */
static char word[8] = "before";

static pid_t start(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        while (strcmp(word, "after")) /* not written as a constant: the parent changes it */
            __asm__ volatile("" ::: "memory");
        shared[0] = 1;
        _exit(0);
    }
    return pid;
}

static void end(pid_t pid, int signal)
{
    if (signal)
        kill(pid, signal);
    waitpid(pid, NULL, 0);
}

int main(void)
{
    pid_t pid = start();
    int memory = pm_memory_open(pid);

    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    end(pid, SIGKILL);
    printf("ended: %d\n", pm_memory_write(memory, (uint64_t)(uintptr_t)word, "after", 6));
    printf("open of an ended one: %d\n", pm_memory_open(pid));
    pid = start();
    printf("the old one's: %d\n", pm_memory_write(memory, (uint64_t)(uintptr_t)word, "after", 6));
    close(memory);
    memory = pm_memory_open(pid);
    printf("nowhere: %d\n", pm_memory_write(memory, 0, "after", 6));
    printf("beyond: %d\n", pm_memory_write(memory, UINT64_MAX - 100, "after", 6));
    printf("alive: %d\n", pm_memory_write(memory, (uint64_t)(uintptr_t)word, "after", 6));
    close(memory);
    end(pid, 0);
    printf("it saw: %d, ours is still \"%s\"\n", shared[0], word);
    return 0;
}
