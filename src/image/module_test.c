/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* cmocka wants some of the above first. */
#include <cmocka.h>

#include "image/internal.h"

#define MODULE(text) text, sizeof(text) - 1

static void a_module_says_what_it_needs(void **state)
{
    (void)state;
    assert_string_equal(
        era_image_module_depends(MODULE("\177ELF\0license=GPL\0depends=virtio,virtio_ring\0retpoline=Y\0")),
        "virtio,virtio_ring");
    assert_string_equal(era_image_module_depends(MODULE("\177ELF\0depends=\0name=x\0")), "");
}

/* Not what contains the word, nor what has no end. */
static void what_is_no_statement_is_none(void **state)
{
    (void)state;
    assert_null(era_image_module_depends(MODULE("")));
    assert_null(era_image_module_depends(MODULE("\0")));
    assert_null(era_image_module_depends(MODULE("\0softdepends=a\0")));
    assert_null(era_image_module_depends("\0depends=virtio", 15));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_module_says_what_it_needs),
        cmocka_unit_test(what_is_no_statement_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
