/*
 * Judges raw answers as an exported test does. In, for each of its rows: value, status, detail, address, the gpa of an
 * MMIO access or 0; for a row of the host its answer instead; and so on from the first row again. Out: a line each,
 * "right" or "wrong" and what was seen.
 */
#define main exported_main
#include EXPORTED
#undef main

int main(void)
{
	size_t i;

	code = calloc(1, DATA_GPA);
	data = calloc(1, DATA_BYTES);
	for (i = 0;; i = (i + 1) % ARRAY_SIZE(checks)) {
		uint64_t at[5];

		if (!checks[i].gpa) {
			if (scanf(" %63[^\n]", seen[i]) != 1)
				return 0;
		} else {
			struct action *action = guest(checks[i].gpa);

			if (scanf("%lx %lx %lx %lx %lx", at, at + 1, at + 2, at + 3, at + 4) != 5)
				return 0;
			action->value = at[0];
			action->status = at[1];
			action->detail = at[2];
			action->address = at[3];
			mmio[i] = at[4];
			say(i);
		}
		printf("%s %s\n", right(i) ? "right" : "wrong", seen[i]);
	}
}
