# Calls that are banned, what stands in their place, and words that belong into an issue. Comments and texts are taken out first
# (but for the words), so that they may speak of what they like.
BEGIN {
        instead["sprintf"] = instead["vsprintf"] = "snprintf, buf_printf or str_format"
        instead["strcpy"] = instead["strcat"] = instead["strncpy"] = instead["strncat"] = instead["stpcpy"] = "strdup, str_format or Buf"
        instead["atoi"] = instead["atol"] = instead["atoll"] = instead["strtol"] = instead["strtoul"] = "str_parse_u64 and the like"
        instead["strtoll"] = instead["strtoull"] = "str_parse_u64 and the like"
        instead["system"] = instead["popen"] = "child_spawn"
        instead["sleep"] = instead["usleep"] = instead["nanosleep"] = "a timer on the loop; in tests the fake clock"
        instead["gets"] = "fgets"
        instead["tmpnam"] = instead["mktemp"] = "mkdtemp or file_write_at"
        instead["strtok"] = "strsep"
        raw["malloc"] = raw["realloc"] = "calloc, Buf or strv_add: raw memory is made in agent/base only"
}
function strip(line,    out, c, i, n) {
        out = ""
        n = length(line)
        for (i = 1; i <= n; i++) {
                c = substr(line, i, 1)
                if (inside == "comment") {
                        if (c == "*" && substr(line, i + 1, 1) == "/") {
                                inside = ""
                                i++
                        }
                } else if (inside != "") {
                        if (c == "\\")
                                i++
                        else if (c == inside) {
                                inside = ""
                                out = out c
                        }
                } else if (c == "/" && substr(line, i + 1, 1) == "*") {
                        inside = "comment"
                        i++
                } else if (c == "/" && substr(line, i + 1, 1) == "/") {
                        print FILENAME ":" FNR ": [calls] a // comment: write /* */"
                        break
                } else {
                        if (c == "\"" || c == "'")
                                inside = c
                        out = out c
                }
        }
        if (inside != "comment" && line !~ /\\$/)
                inside = ""
        return out
}
FNR == 1 { inside = "" }
{
        code = strip($0)
        if ($0 ~ /(^|[^A-Za-z0-9_])(TO[D]O|FIX[M]E|XX[X]|HAC[K])([^A-Za-z0-9_]|$)/)
                print FILENAME ":" FNR ": [words] a note to oneself: do it, or open an issue"
        while (match(code, /(^|[^A-Za-z0-9_.>])[a-z_]+ ?\(/)) {
                name = substr(code, RSTART, RLENGTH)
                gsub(/[^a-z_]/, "", name)
                code = substr(code, RSTART + RLENGTH)
                # Tests of other processes may look again until a deadline.
                if (FILENAME ~ /^tests\// && (name == "usleep" || name == "nanosleep"))
                        continue
                if (name in instead)
                        print FILENAME ":" FNR ": [calls] " name "(): use " instead[name]
                else if (name in raw && FILENAME !~ /^agent\/base\// && FILENAME !~ /^tests\//)
                        print FILENAME ":" FNR ": [calls] " name "(): use " raw[name]
        }
}
