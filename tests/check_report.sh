#!/bin/bash
# The report's page: everything inside it, and where there is a Chromium it loads without an error,
# points, zooms and shows all ranks.
set -u
cd "$(dirname "$0")/.." || exit 2
peosim=${PEOSIM:-build/peosim}
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
fault() { echo "$*" && bad=1; }
bad=

cat >"$dir/a.yaml" <<'END'
model: deepseek-v3
phase: decode
batch: [16, 64]
cluster: {profile: h20, nodes: 2}
policies: [none, {policy: peo, overlap_method: [1, 2], num_rounds: [2, 4], num_sms: [8, 16]}, sbo]
END
"$peosim" run "$dir/a.yaml" --no-plots --html --quiet --output-dir "$dir/out" >"$dir/log" 2>&1 ||
    { cat "$dir/log" && exit 1; }
page=$dir/out/report.html
[ -s "$page" ] || { echo "no page" && exit 1; }
grep -qiE '(src|href)="?(https?:)?//' "$page" && fault "the page asks the network for something"
grep -q '@@' <(grep -v 'chart' "$page" | head -40) && fault "a mark of the skeleton was not replaced"
"$peosim" report "$dir/out" --out "$dir/again.html" >/dev/null || fault "report fails on run's folder"
mkdir "$dir/empty"
"$peosim" report "$dir/empty" >/dev/null 2>"$dir/err" && fault "an empty folder gave a page"
grep -q 'not a folder of results' "$dir/err" || fault "an empty folder is not named: $(cat "$dir/err")"

# A text that would end the script that holds the data must not.
sed 's/"title": "/"title": "<\/script><b>/' "$dir/out/timelines.json" >"$dir/t.json" && mv "$dir/t.json" "$dir/out/timelines.json"
"$peosim" report "$dir/out" --out "$dir/hostile.html" >/dev/null || fault "report fails on a hostile title"
[ "$(grep -c '</script>' "$dir/hostile.html")" = "$(grep -c '</script>' "$dir/again.html")" ] ||
    fault "a title ends the page's script"

browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
if [ -n "$browser" ]; then
    timeout 60 "$browser" --headless --no-sandbox --disable-gpu --window-size=1280,2000 --enable-logging=stderr \
        --virtual-time-budget=4000 --user-data-dir="$dir/chromium" --dump-dom "file://$page#selftest" \
        >"$dir/dom" 2>"$dir/console"
    grep -i 'CONSOLE' "$dir/console" && fault "the page wrote to the console"
    got=$(grep -o 'data-selftest="[^"]*"' "$dir/dom" | sed 's/&quot;/"/g')
    for want in '"tip":"[a-z_]+' '"zoomed":0\.[0-9]' '"rows":[1-9]' '"path":[1-9]' '"best_rows":[1-9]'; do
        echo "$got" | grep -qE "$want" || fault "the page's own test lacks $want: $got"
    done
else
    echo "skipped in a browser: there is no Chromium"
fi
[ -z "$bad" ]
