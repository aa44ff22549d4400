#include "base/merge.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"

typedef struct Item {
        char *name;
        uint64_t n;
} Item;

typedef struct Inner {
        char *text;
        bool flag;
        JsonMap free;
} Inner;

typedef struct Thing {
        uint64_t n;
        Inner inner;
        JsonArray items;
        char **list;
} Thing;

static const JsonField item_fields[] = {
        { .name = "name",
          .kind = JSON_KIND_STRING,
          .offset = offsetof(Item, name),
          .flags = JSON_REQUIRED },
        { .name = "n", .kind = JSON_KIND_U64, .offset = offsetof(Item, n), .max = 10 },
        { .name = NULL },
};
static const JsonTable item_table = { item_fields, sizeof(Item) };

static const JsonField inner_fields[] = {
        { .name = "text", .kind = JSON_KIND_STRING, .offset = offsetof(Inner, text) },
        { .name = "flag", .kind = JSON_KIND_BOOL, .offset = offsetof(Inner, flag) },
        { .name = "free", .kind = JSON_KIND_MAP, .offset = offsetof(Inner, free), .max = 8 },
        { .name = NULL },
};
static const JsonTable inner_table = { inner_fields, sizeof(Inner) };

static const JsonField thing_fields[] = {
        { .name = "n", .kind = JSON_KIND_U64, .offset = offsetof(Thing, n), .max = 100 },
        { .name = "inner",
          .kind = JSON_KIND_OBJECT,
          .offset = offsetof(Thing, inner),
          .table = &inner_table },
        { .name = "items",
          .kind = JSON_KIND_ARRAY,
          .offset = offsetof(Thing, items),
          .max = 8,
          .table = &item_table },
        { .name = "list", .kind = JSON_KIND_STRV, .offset = offsetof(Thing, list), .max = 8 },
        { .name = NULL },
};
static const JsonTable thing_table = { thing_fields, sizeof(Thing) };

static void thing_done(Thing *thing) {
        json_table_done(&thing_table, thing);
}

static Merge *merge_of(const char *defaults, const char *a, const char *b) {
        Merge *merge = merge_new(&thing_table);

        assert_non_null(merge);
        assert_int_equal(merge_yaml(merge, defaults, strlen(defaults), NULL, NULL), 0);
        assert_int_equal(merge_yaml(merge, a, strlen(a), "a", NULL), 0);
        assert_int_equal(merge_yaml(merge, b, strlen(b), "b", NULL), 0);
        return merge;
}

static void later_texts_win_key_by_key(void **state) {
        _cleanup_(merge_freep) Merge *merge =
                merge_of("n: 1\ninner: {text: d, flag: true}\n",
                         "inner:\n  text: a\n  free:\n    X: 1\n    Y:\n",
                         "n: 3\ninner:\n  flag: no\n  free: {X: 2}\n");
        _cleanup_(thing_done) Thing thing = { 0 };
        _cleanup_(json_map_done) JsonMap sources = { 0 };

        (void) state;
        assert_int_equal(merge_decode(merge, &thing, NULL), 0);
        assert_int_equal(thing.n, 3);
        assert_string_equal(thing.inner.text, "a");
        assert_false(thing.inner.flag);
        assert_string_equal(json_map_get(&thing.inner.free, "X"), "2");
        assert_string_equal(json_map_get(&thing.inner.free, "Y"), "");

        assert_int_equal(merge_sources(merge, &sources), 0);
        assert_string_equal(json_map_get(&sources, "n"), "b:1");
        assert_string_equal(json_map_get(&sources, "inner.text"), "a:2");
        assert_string_equal(json_map_get(&sources, "inner.flag"), "b:3");
        assert_string_equal(json_map_get(&sources, "inner.free.X"), "b:4");
        assert_string_equal(json_map_get(&sources, "inner.free.Y"), "a:5");
        assert_null(json_map_get(&sources, "items"));
}

/* Parts of a list that was replaced leave no source behind. */
static void lists_are_replaced_whole(void **state) {
        _cleanup_(merge_freep) Merge *merge = merge_of(
                "list: [x]\n", "items:\n  - name: one\n    n: 1\n  - name: two\nlist: [a, b]\n",
                "items:\n\n  - {name: three}\n");
        _cleanup_(thing_done) Thing thing = { 0 };
        _cleanup_(json_map_done) JsonMap sources = { 0 };

        (void) state;
        assert_int_equal(merge_decode(merge, &thing, NULL), 0);
        assert_int_equal(thing.items.n, 1);
        assert_string_equal(((Item *) thing.items.items)->name, "three");
        assert_int_equal(strv_count(thing.list), 2);

        assert_int_equal(merge_sources(merge, &sources), 0);
        assert_string_equal(json_map_get(&sources, "items[0].name"), "b:3");
        assert_null(json_map_get(&sources, "items[0].n"));
        assert_null(json_map_get(&sources, "items[1]"));
        assert_string_equal(json_map_get(&sources, "list[1]"), "a:5");
}

/* What an anchor names is one value in the file and two here. */
static void aliases_are_not_shared(void **state) {
        _cleanup_(merge_freep) Merge *merge =
                merge_of("", "items:\n  - &i {name: one}\n  - *i\n", "inner: {free: {A: 1}}\n");
        _cleanup_(thing_done) Thing thing = { 0 };

        (void) state;
        assert_int_equal(merge_decode(merge, &thing, NULL), 0);
        assert_int_equal(thing.items.n, 2);
        assert_string_equal(((Item *) thing.items.items)[1].name, "one");
}

static void a_wrong_text_changes_nothing(void **state) {
        static const char *const wrong[] = { "n: 101", "m: 1", "n: {", "inner: {flag: 3}",
                                             "items: [{}]" };
        _cleanup_(merge_freep) Merge *merge = merge_of("n: 1", "", "");
        _cleanup_(thing_done) Thing thing = { 0 };
        size_t i;

        (void) state;
        for (i = 0; i < ELEMENTS(wrong); i++) {
                _cleanup_(error_freep) Error *err = NULL;

                assert_true(merge_yaml(merge, wrong[i], strlen(wrong[i]), "c", &err) < 0);
                assert_int_equal(strncmp(error_text(err), "c:", 2), 0);
        }
        assert_int_equal(merge_decode(merge, &thing, NULL), 0);
        assert_int_equal(thing.n, 1);
}

static void variables_are_the_last_word(void **state) {
        char n[] = "X_N=7", text[] = "X_INNER_TEXT=from env", flag[] = "X_INNER_FLAG=off",
             items[] = "X_ITEMS=x", free_name[] = "X_INNER_FREE=x", empty[] = "X_LIST=";
        char *const env[] = { n, text, flag, items, free_name, empty, NULL };
        _cleanup_(merge_freep) Merge *merge = merge_of("n: 1", "inner: {flag: true}", "");
        _cleanup_(thing_done) Thing thing = { 0 };
        _cleanup_(json_map_done) JsonMap sources = { 0 };

        (void) state;
        assert_int_equal(merge_environment(merge, env, "X_", NULL), 0);
        assert_int_equal(merge_environment(merge, NULL, "X_", NULL), 0);
        assert_int_equal(merge_decode(merge, &thing, NULL), 0);
        assert_int_equal(thing.n, 7);
        assert_string_equal(thing.inner.text, "from env");
        assert_false(thing.inner.flag);
        assert_int_equal(thing.items.n, 0);
        assert_int_equal(merge_sources(merge, &sources), 0);
        assert_string_equal(json_map_get(&sources, "n"), "X_N");
        assert_string_equal(json_map_get(&sources, "inner.text"), "X_INNER_TEXT");
}

static void wrong_variables_are_named_by_decoding(void **state) {
        char n[] = "X_N=101";
        char *const env[] = { n, NULL };
        _cleanup_(merge_freep) Merge *merge = merge_of("n: 1", "", "");
        _cleanup_(error_freep) Error *err = NULL;
        Thing thing = { 0 };

        (void) state;
        assert_int_equal(merge_environment(merge, env, "X_", NULL), 0);
        assert_int_equal(merge_decode(merge, &thing, &err), -ERANGE);
        assert_string_equal(error_text(err), "X_N: n: 101 is above 100");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(later_texts_win_key_by_key),
                cmocka_unit_test(lists_are_replaced_whole),
                cmocka_unit_test(aliases_are_not_shared),
                cmocka_unit_test(a_wrong_text_changes_nothing),
                cmocka_unit_test(variables_are_the_last_word),
                cmocka_unit_test(wrong_variables_are_named_by_decoding),
        };

        return cmocka_run_group_tests_name("merge", tests, NULL, NULL);
}
