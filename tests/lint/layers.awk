# Arrows go down only: a file may include headers of its own folder and of folders below it; folders on one level stay apart,
# but for those that are named here. Reads .c and .h of agent/ and include/.
BEGIN {
        n = split("base|loop|host|store service|fleet settings|deploy bundle net|control|agent|programs", rows, "|")
        for (i = 1; i <= n; i++) {
                m = split(rows[i], names, " ")
                for (j = 1; j <= m; j++)
                        level[names[j]] = i
        }
        # What everybody may know: limits, contracts with others.
        free["agent/limits.h"] = free["agent/contract.h"] = 1
}
function folder(path) {
        sub(/^\.\//, "", path)
        sub(/^(agent|include)\//, "", path)
        return path ~ /\// ? substr(path, 1, index(path, "/") - 1) : "agent"
}
/^[ \t]*#[ \t]*include[ \t]*"/ {
        split($0, parts, "\"")
        target = parts[2]
        if (target in free)
                next
        from = folder(FILENAME)
        if (target ~ /\.\./) {
                print FILENAME ":" FNR ": [layers] \"" target "\": include by layer, never by .."
                next
        }
        to = target ~ /\// ? folder(target) : from
        if (!(to in level))
                print FILENAME ":" FNR ": [layers] \"" target "\": there is no layer " to
        else if (!(from in level))
                print FILENAME ":" FNR ": [layers] the folder " from " is no layer; name it in tests/lint/layers.awk"
        else if (level[to] > level[from] || (level[to] == level[from] && to != from))
                print FILENAME ":" FNR ": [layers] " from " may not include \"" target "\": arrows go down only; declare what is needed and let agent.c fill it in"
}
