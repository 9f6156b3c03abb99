/* Files and memory: <fcntl.h>, <unistd.h>, <sys/mman.h>, <sys/ioctl.h>, <sys/syscall.h>. */
#define O_RDONLY 0
#define O_RDWR 2
#define O_CLOEXEC 0x80000

#define PROT_READ 1
#define PROT_WRITE 2
#define PROT_EXEC 4
#define MAP_SHARED 0x01
#define MAP_PRIVATE 0x02
#define MAP_ANONYMOUS 0x20
#define MAP_NORESERVE 0x4000

#define MADV_HUGEPAGE 14

#define SYS_ioctl 16
#define SYS_getpid 39
#define SYS_gettid 186
#define SYS_perf_event_open 298

int open(const char *path, int flags, ...);
int close(int fd);
ssize_t read(int fd, void *buffer, size_t count);
ssize_t pread(int fd, void *buffer, size_t count, long offset);
ssize_t write(int fd, const void *buffer, size_t count);
int ioctl(int fd, unsigned long request, ...);
void *mmap(void *address, size_t length, int prot, int flags, int fd, long offset);
int munmap(void *address, size_t length);
int mprotect(void *address, size_t length, int prot);
int madvise(void *address, size_t length, int advice);
int mlock(const void *address, size_t length);
long syscall(long number, ...);
