/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A shell costs a start of its own. Most commands do not need one: it would
 * find the words, find the program, and become it. As make does, such a command
 * is run at once; whatever a shell could see more in it is left to the shell.
 */

/*
 * The words that every POSIX shell finds in a command line of one plain command:
 * no assignment, expansion, redirection, operator, builtin or reserved word.
 * Returns a vector that ends with NULL, in one block to be freed, or NULL when
 * it takes a shell to know (or there is no memory). Pure, thread-safe.
 */
char **plain_words(const char *line);
