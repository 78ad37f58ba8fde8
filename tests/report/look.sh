#!/usr/bin/env bash
# look.sh PAGE.html FOLDER: opens a page of `ksa report` in a headless Chromium, light and dark. FOLDER gets
# report_light.png, report_dark.png and report_browser.txt: the console's messages, and how much was drawn. Run by hand,
# as no test machine has a browser; `width` and `height` in the environment are of the window. Exit status: 0 the page drew
# without a message; 1 it did not.
set -euo pipefail
page=$(realpath "${1:?"usage: tests/report/look.sh PAGE.html FOLDER"}")
folder=${2:?"usage: tests/report/look.sh PAGE.html FOLDER"}
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome) ||
  { echo "look.sh: no chromium here; install the package chromium" >&2; exit 69; }
mkdir -p "$folder"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
options=(--headless=new --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$scratch/profile"
         --virtual-time-budget=20000 --window-size="${width:-1100},${height:-1500}"
         --enable-logging=stderr --log-level=0)

"$browser" "${options[@]}" --dump-dom "file://$page" >"$scratch/dom.html" 2>"$scratch/log"
for theme in light dark; do
  "$browser" "${options[@]}" --screenshot="$folder/report_$theme.png" "file://$page#$theme" >/dev/null 2>>"$scratch/log"
done
attribute() { grep -oE "data-$1=\"[0-9]+\"" "$scratch/dom.html" | grep -oE '[0-9]+' | head -n 1 || true; }
charts=$(attribute charts)
marks=$(attribute marks)
console=$(grep -F 'CONSOLE' "$scratch/log" | sed -E 's/^\[[^]]*\] *//; s#file://[^ )]*/##g' || true)
{
  "$browser" --version | sed 's/ *$//'
  echo "page: $(basename "$page"), $(wc -c <"$page") bytes"
  echo "charts: ${charts:-none}, points in them: ${marks:-none}"
  echo "rows in tables: $(grep -oE '<tr' "$scratch/dom.html" | wc -l)"
  echo "console: ${console:-no message}"
} | tee "$folder/report_browser.txt"
[ -n "$charts" ] && [ "$charts" -gt 0 ] && [ "${marks:-0}" -gt 0 ] && [ -z "$console" ]
