#!/bin/bash
# zensical 0.0.73, `zensical build --strict`: a page that `nav` names and that does not exist is no warning. The build ends
# with exit code 0 and "No issues found", and the site has an entry whose link is a 404. The same for a link in a page to a file
# that is no page (here a picture). A link to a page that does not exist does end the build.
# One would guess: strict mode fails for each of the three, as MkDocs' strict mode does for the first and the third.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q zensical==0.0.73
mkdir "$folder/docs"
cat > "$folder/zensical.toml" <<'TOML'
[project]
site_name = "shop"
nav = [{ "Home" = "index.md" }, { "Prices" = "prices.md" }]
TOML
cd "$folder"
build() { NO_COLOR=1 "$folder/venv/bin/zensical" build --clean --strict >"$folder/said" 2>&1 && echo "passes" || echo "fails"; }

printf '# Shop\n' > docs/index.md
nav=$(build)
entry=$(grep -c 'href="[./]*prices' site/index.html || true)
printf '# Shop\n\n![A picture](gone.png)\n' > docs/index.md
picture=$(build)
printf '# Shop\n\n[Prices](prices.md)\n' > docs/index.md
page=$(build)

"$folder/venv/bin/zensical" --version
echo "a page that is not there and is linked:   expected fails, seen $page"
echo "a page that is not there and is in nav:   expected fails, seen $nav, with $([ "$entry" -gt 0 ] && echo a || echo no) link to it in the site"
echo "a picture that is not there:              expected fails, seen $picture"
[ "$page $nav $picture" = "fails passes passes" ] && [ "$entry" -gt 0 ]
