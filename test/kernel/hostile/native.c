/*
 * What a hostile program does outside of JavaScript: it reads one request a line from its standard input, and prints one
 * answer a line: the result, or the name of the errno. Static, so that it runs wherever it is written.
 *
 *   NAME A B C D E F       a system call; an argument is a number, `buf` (4 KiB of zeros), or a text without a digit in front
 *   fork N                 how many of N forks fail with EAGAIN; the others sleep
 *   writer FD TEXT         a grandchild, in a session of its own, that writes TEXT to FD every millisecond for ever
 *   ioctler FD REQ VALUE   the same with an ioctl on { bits = VALUE, mask = 1 } (struct gpio_v2_line_values)
 *   int80                  getpid as a 32 bit program asks for it; says which signal ended that
 *   open PATH, edit PATH   0 when it can be opened for reading, for writing
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CALL(name) {#name, SYS_##name}
static const struct {
  const char *name;
  long nr;
} CALLS[] = {
    CALL(kill), CALL(tgkill), CALL(ptrace), CALL(process_vm_readv), CALL(process_vm_writev), CALL(pidfd_getfd),
    CALL(prlimit64), CALL(setpriority), CALL(sched_setaffinity), CALL(kcmp), CALL(process_madvise), CALL(ioctl), CALL(read),
    CALL(pread64), CALL(readv), CALL(splice), CALL(sendfile), CALL(dup), CALL(dup3), CALL(fcntl), CALL(flock), CALL(ftruncate),
    CALL(mknodat), CALL(setuid), CALL(setgid), CALL(setgroups), CALL(unshare), CALL(setns), CALL(clone), CALL(clone3),
    CALL(mount), CALL(umount2), CALL(chroot), CALL(pivot_root), CALL(fsopen), CALL(open_tree), CALL(bpf),
    CALL(perf_event_open), CALL(userfaultfd), CALL(add_key), CALL(keyctl), CALL(io_uring_setup), CALL(open_by_handle_at),
    CALL(init_module), CALL(kexec_load), CALL(reboot), CALL(swapoff), CALL(clock_settime), CALL(sethostname), CALL(syslog),
    CALL(prctl), CALL(socket), CALL(sendmsg), CALL(quotactl), CALL(fanotify_init), CALL(acct),
};

static char buffer[4096];
static char *word[16];

static long number(int n) {
  if (!word[n]) return 0;
  if (!strcmp(word[n], "buf")) return (long)buffer;
  if (!isdigit(word[n][0]) && word[n][0] != '-') return (long)word[n];
  return (long)strtoull(word[n], NULL, 0);
}

static void say(long result) {
  if (result == -1) printf("%s\n", strerrorname_np(errno));
  else printf("%ld\n", result);
}

static void pause_ms(void) {
  struct timespec ms = {0, 1000000};
  nanosleep(&ms, NULL);
}

static void daemon_of(void (*run)(void)) {
  pid_t child = fork();
  if (child == 0) {
    setsid();
    for (int fd = 0; fd < 3; fd++) close(fd);
    if (fork() == 0)
      for (;;) {
        run();
        pause_ms();
      }
    _exit(0);
  }
  if (child > 0) waitpid(child, NULL, 0);
  say(child > 0 ? 0 : -1);
}

static void write_once(void) {
  if (write(number(1), word[2], strlen(word[2])) < 0) pause_ms();
}

static void ioctl_once(void) {
  uint64_t values[2] = {number(3), 1};
  ioctl(number(1), number(2), values);
}

static void fork_many(long count) {
  pid_t children[2048];
  int made = 0;
  int refused = 0;
  for (long n = 0; n < count && made < 2048; n++) {
    pid_t child = fork();
    if (child == 0) {
      for (;;) pause();
    }
    if (child > 0) children[made++] = child;
    else if (errno == EAGAIN) refused++;
  }
  for (int n = 0; n < made; n++) {
    kill(children[n], SIGKILL);
    waitpid(children[n], NULL, 0);
  }
  printf("%d\n", refused);
}

static void old_convention(void) {
#ifdef __x86_64__
  int status;
  pid_t child = fork();
  if (child == 0) {
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20));
    _exit(0);
  }
  waitpid(child, &status, 0);
  printf("%s\n", WIFSIGNALED(status) ? sigabbrev_np(WTERMSIG(status)) : "alive");
#else
  printf("SYS\n");
#endif
}

static void make_call(void) {
  for (unsigned n = 0; n < sizeof CALLS / sizeof *CALLS; n++) {
    if (strcmp(word[0], CALLS[n].name)) continue;
    say(syscall(CALLS[n].nr, number(1), number(2), number(3), number(4), number(5), number(6)));
    return;
  }
  printf("unknown\n");
}

int main(void) {
  char line[1024];
  signal(SIGCHLD, SIG_DFL);
  while (fgets(line, sizeof line, stdin)) {
    int n = 0;
    memset(word, 0, sizeof word);
    for (char *part = strtok(line, " \n"); part && n < 16; part = strtok(NULL, " \n")) word[n++] = part;
    if (n == 0) continue;
    memset(buffer, 0, sizeof buffer);
    errno = 0;
    if (!strcmp(word[0], "fork")) fork_many(number(1));
    else if (!strcmp(word[0], "writer")) daemon_of(write_once);
    else if (!strcmp(word[0], "ioctler")) daemon_of(ioctl_once);
    else if (!strcmp(word[0], "int80")) old_convention();
    else if (!strcmp(word[0], "open")) say(open(word[1], O_RDONLY) < 0 ? -1 : 0);
    else if (!strcmp(word[0], "edit")) say(open(word[1], O_RDWR) < 0 ? -1 : 0);
    else make_call();
    fflush(stdout);
  }
  return 0;
}
