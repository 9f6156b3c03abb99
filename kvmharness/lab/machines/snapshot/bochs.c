/*
 * Loaded into Bochs 2.7 with LD_PRELOAD: lets a guest save the Bochs that it runs in, lets such a state be restored
 * quickly, makes RDRAND repeat, and switches the debugger's hooks off. Where its environment asks for neither of the
 * first two, only the last two are different.
 *
 * Functions of libc that Bochs calls are answered here first, because this object is loaded before libc.
 *
 * Saving. Bochs saves its state on demand of its GUI alone. But its port 0xE9 hands each byte that the guest writes to
 * putc(). This one saves when the guest writes SAVE_BYTE while KVMHARNESS_SAVE_TO names a folder, and ends Bochs: the
 * byte may stand in any output, so a machine that is not to be saved must not have that variable. The instruction
 * pointer stands behind the guest's OUT by then, so that a restored guest goes on after it.
 * Bochs exports what is called: SIM, a pointer to its simulator object, and bx_real_sim_c::save_state(const char *),
 * which as every method takes the object as its first argument. They are weak, because not every Bochs exports them,
 * and because the shell that starts Bochs is given this object, too.
 *
 * Restoring. Bochs first copies the saved memory into a temporary file, 64 bytes at a time and holes too, and then
 * reads the guest's memory from there. While KVMHARNESS_RESTORE_FROM names that folder, the temporary file is the saved
 * memory itself, and is at its end at once for whoever copies it.
 *
 * Hooks. Debian's Bochs has its debugger compiled in, which is called after every instruction and at every access to
 * memory, to look for breakpoints and watchpoints. There are none here, so these functions return at once, which saves
 * a seventh of all processor time. They are called directly, not through a table that a preloaded object could answer
 * in their place: so their first instructions are replaced. A Bochs without a debugger does not have them, and where
 * code must not be changed they stay as they are.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SAVE_BYTE 0xa5
#define MEMORY "/memory.ram"

extern void *SIM __attribute__((weak));
extern char _ZN13bx_real_sim_c10save_stateEPKc(void *sim, const char *folder) __attribute__((weak));

int putc(int byte, FILE *stream)
{
	const char *folder = getenv("KVMHARNESS_SAVE_TO");

	if (folder && (byte & 0xff) == SAVE_BYTE && &SIM && _ZN13bx_real_sim_c10save_stateEPKc)
		_exit(_ZN13bx_real_sim_c10save_stateEPKc(SIM, folder) ? 0 : 3);
	return fputc(byte, stream);
}

FILE *tmpfile64(void)
{
	const char *folder = getenv("KVMHARNESS_RESTORE_FROM");
	FILE *(*real)(void) = (FILE *(*)(void))dlsym(RTLD_NEXT, "tmpfile64");
	char path[4096];

	if (!folder)
		return real();
	snprintf(path, sizeof(path), "%s%s", folder, MEMORY);
	return fopen64(path, "r+b");
}

int feof(FILE *stream)
{
	int (*real)(FILE *) = (int (*)(FILE *))dlsym(RTLD_NEXT, "feof");
	char link[64], path[4096];
	size_t length = strlen(MEMORY);
	ssize_t count;

	if (!getenv("KVMHARNESS_RESTORE_FROM"))
		return real(stream);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fileno(stream));
	count = readlink(link, path, sizeof(path));
	if (count >= (ssize_t)length && !memcmp(path + count - length, MEMORY, length))
		return 1;
	return real(stream);
}

/* RDRAND gives rand(), which Bochs seeds with the time of day. */
void srand(unsigned int seed)
{
	(void)seed;
}

/* bool BX_CPU_C::dbg_instruction_epilog(): whether the debugger is to stop the guest. The others answer nothing. */
extern char _ZN8BX_CPU_C22dbg_instruction_epilogEv[] __attribute__((weak));
extern char _Z24bx_dbg_lin_memory_accessjmmjjjPh[] __attribute__((weak));
extern char _Z24bx_dbg_phy_memory_accessjmjjjjPh[] __attribute__((weak));

static void return_zero(char *function)
{
	static const char code[] = { 0x31, 0xc0, 0xc3 }; /* xor eax, eax; ret */
	char *page = (char *)((unsigned long)function & ~4095UL);
	size_t size = function + sizeof(code) - page;

	if (!function || mprotect(page, size, PROT_READ | PROT_WRITE | PROT_EXEC))
		return;
	memcpy(function, code, sizeof(code));
	mprotect(page, size, PROT_READ | PROT_EXEC);
}

__attribute__((constructor)) static void without_hooks(void)
{
	return_zero(_ZN8BX_CPU_C22dbg_instruction_epilogEv);
	return_zero(_Z24bx_dbg_lin_memory_accessjmmjjjPh);
	return_zero(_Z24bx_dbg_phy_memory_accessjmjjjjPh);
}
