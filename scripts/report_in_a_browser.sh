#!/usr/bin/env bash
# The report in a real browser: a phone and a desk, light and dark. It has to fit without scrolling sideways, load nothing,
# run nothing, be dark where the browser is, and give the browser nothing to complain of. Needs chromium (apt-get install chromium): the page
# is asked through the browser's own command line.
#
#   scripts/report_in_a_browser.sh [FOLDER FOR THE PICTURES]
set -euo pipefail
cd "$(dirname "$0")/.."

browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
[ -n "$browser" ] || { echo "this needs chromium: apt-get install chromium" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pictures=${1:-$work}
mkdir -p "$pictures"

cargo build --quiet -p rowhouse-cli
rowhouse="${CARGO_TARGET_DIR:-target}/debug/rowhouse"
"$rowhouse" --home "$work/home" import examples/transcripts >/dev/null
"$rowhouse" --home "$work/home" backup >/dev/null
# Of a home that is written to meanwhile: every part of the page has something to show.
mkdir "$work/demo"
TMPDIR="$work/demo" "$rowhouse" demo --seconds 6 >/dev/null &
demo=$!
until home=$(ls -d "$work"/demo/*/home 2>/dev/null) && [ -n "$(ls "$home/run" 2>/dev/null)" ]; do
  kill -0 "$demo" || { echo "the demo has ended" >&2; exit 2; }
done
cp -r "$work/home/backups" "$home/"
"$rowhouse" --home "$home" report --html "$work/report.html"
wait "$demo"
grep -q 'class="bar"' "$work/report.html" && grep -q '<polyline' "$work/report.html"

# A profile of our own: the browser writes nowhere else.
run() {
  timeout 60 "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$work/profile" \
    --hide-scrollbars --enable-logging=stderr "$@" 2>>"$work/browser.log"
}

failed=0
check() {
  if [ "$2" = "$3" ]; then echo "ok    $1"; else echo "FAIL  $1: expected $2, found $3"; failed=1; fi
}

# A frame measures the page as a phone has it: a headless window is never narrower than 500 pixels. Only the copy that is
# measured loses its ban on scripts, to tell its width.
for width in 360 414 1280; do
  for scheme in light dark; do
    sed -e '/Content-Security-Policy/d' "$work/report.html" > "$work/measured.html"
    cat > "$work/frame.html" <<FRAME
<!DOCTYPE html><body><iframe id="f" style="width:${width}px;height:800px;border:0" src="measured.html"></iframe><script>
const f = document.getElementById("f");
f.onload = () => {
  const d = f.contentDocument.documentElement;
  const back = f.contentWindow.getComputedStyle(d.querySelector("body")).backgroundColor;
  const scripts = d.querySelectorAll("script").length;
  const loaded = f.contentWindow.performance.getEntriesByType("resource").length;
  document.title = "done";
  document.body.insertAdjacentHTML("beforeend",
    "<p id=told>" + [d, ...d.querySelectorAll(".wide")].every((e) => e.scrollWidth <= e.clientWidth) + " " + back + " " + scripts + " " + loaded + "</p>");
};
</script></body>
FRAME
    dark=()
    [ "$scheme" = light ] || dark=(--blink-settings=preferredColorScheme=0)
    told=$(run "${dark[@]}" --allow-file-access-from-files --virtual-time-budget=5000 --dump-dom "file://$work/frame.html" \
      | sed -n 's/.*<p id="told">\(.*\)<\/p>.*/\1/p')
    back="rgb(255, 255, 255)"
    [ "$scheme" = light ] || back="rgb(17, 17, 19)"
    check "$width pixels, $scheme: fits, background, scripts, loads" "true $back 0 0" "$told"
    run "${dark[@]}" --screenshot="$pictures/report-$width-$scheme.png" --window-size="$width,2400" \
      "file://$work/report.html" >/dev/null
  done
done
check "complaints of the browser" 0 "$(grep -c 'CONSOLE' "$work/browser.log" || true)"
[ "$pictures" = "$work" ] || echo "pictures in $pictures"
exit "$failed"
