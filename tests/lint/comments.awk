# Headers say what the thing is: each begins with a comment, and comments are at least a quarter of all lines that are not blank.
function finish() {
        if (file != "" && !begins)
                print file ":1: [comments] begins without a comment: say what it is, its life, who owns what"
}
FNR == 1 {
        finish()
        file = FILENAME
        begins = code = inside = 0
}
/^[ \t]*$/ { next }
{
        total++
        if (inside || /^[ \t]*\/\*/) {
                comments++
                if (!code)
                        begins = 1
                inside = !/\*\//
        } else {
                # One behind what it explains counts for its half.
                if (/\/\*.*\*\//)
                        comments += 0.5
                else if (/\/\*/) {
                        comments += 0.5
                        inside = 1
                }
                if (!/^#pragma once/)
                        code = 1
        }
}
END {
        finish()
        if (total && comments < total / 4)
                printf "include:1: [comments] %d %% of the headers are comments: at least 25 %%; they are the design\n", 100 * comments / total
}
