/* Marks what callgrind counts. Only marks.c includes valgrind's header, so that a Python program can use the marks of
 * the same library.
 */
#ifndef MARKS_H
#define MARKS_H

/* Counting begins here. */
void begin_counting(void);

/* Counting ends here. callgrind writes the counts to a file that holds the name. */
void end_counting(const char *name);

#endif
