#!/bin/sh
# Puts the plugin's binary into the bin folder of the plugin's own folder: that
# of the release which plugin.yaml names, or one built from the source where the
# release's can't be had. docs/install.md says when it does which.
#
# Helm runs this in the user's folder after "helm plugin install" and "helm plugin
# update"; it can also be run by hand. An update has wiped what git ignores before,
# so the binary is always fetched anew. Nothing that Helm sets is relied on: Helm 4
# sets little here, and what is set where the script is run by hand may be another's.
set -eu
# Neither may the user's language change what other programs say, nor CDPATH where cd goes.
LC_ALL=C
export LC_ALL
unset CDPATH

# Where the releases of a clone are signed whose origin isn't on GitHub, such as a mirror's.
home=https://github.com/helm-parallel-hooks/helm-parallel-hooks
checksums=checksums.txt
bundle=checksums.txt.sigstore.json
signature=checksums.txt.asc
issuer=https://token.actions.githubusercontent.com

# fail ends the installation. Its arguments are lines.
fail() {
  printf 'helm-parallel-hooks: %s\n' "$@" >&2
  if [ -n "$binary" ] && [ -f "$binary" ]; then
    printf 'helm-parallel-hooks: the binary that was there before is as it was.\n' >&2
  fi
  # The failed plugin stays listed, and Helm wouldn't install over it.
  [ -z "$again" ] || printf 'helm-parallel-hooks: Then run: %s\n' "$again" >&2
  exit 1
}

# say goes on where nothing can be said; if nobody listens, that's a signal.
say() {
  printf '%s\n' "$*" 2>/dev/null || :
}

has() {
  command -v "$1" >/dev/null 2>&1
}

# run runs what may take long. The shell waits for it in a way that a signal ends at once.
run() {
  "$@" </dev/null 3>&- &
  child=$!
  status=0
  wait "$child" || status=$?
  child=
  return "$status"
}

# stop is what a signal does: first nothing may run on, then nothing is left. In the background an interrupt is ignored, by
# go until it compiles, so it takes a termination.
stop() {
  trap '' HUP INT PIPE TERM
  # The terminal may be gone; and stderr may be a file just now, that of what was running.
  printf 'helm-parallel-hooks: ended by a signal, so nothing was installed. To try again, run: %s\n' "$again" >&3 2>/dev/null || :
  if [ -n "$child" ]; then
    kill -TERM "$child" 2>/dev/null || :
    wait "$child" 2>/dev/null || :
  fi
  exit "$1"
}

clean() {
  [ -n "$work" ] || return 0
  # A compiler may live a little longer than the go that has started it, and write another file.
  rm -rf "$work" 2>/dev/null || { sleep 2 && rm -rf "$work"; }
  # Only where nothing was installed before.
  rmdir bin 2>/dev/null || :
}

# quote prints a word as a shell reads it.
quote() {
  printf "'%s'\n" "$(printf '%s\n' "$1" | sed "s/'/'\\\\''/g")"
}

is_plugin() {
  tr -d '\r' <plugin.yaml | grep -q '^name: *"\{0,1\}parallel-hooks"\{0,1\} *$'
}

plugin_version() {
  tr -d '\r' <plugin.yaml | sed -n 's/^version: *"\{0,1\}\([0-9A-Za-z.+-]*\)"\{0,1\} *$/\1/p'
}

# find_platform sets os and arch to Go's names, or to what uname says where no release knows it.
find_platform() {
  os=$(uname -s)
  arch=$(uname -m)
  case $os in
    MINGW*ARM64* | MSYS*ARM64* | CYGWIN*ARM64*) arch=arm64 ;; # uname itself is emulated there
  esac
  case $os in
    Linux) os=linux ;;
    Darwin) os=darwin ;;
    FreeBSD) os=freebsd ;;
    MINGW* | MSYS* | CYGWIN* | Windows_NT) os=windows ;;
  esac
  case $arch in
    x86_64 | amd64) arch=amd64 ;;
    aarch64 | arm64) arch=arm64 ;;
    armv7* | armv8l) arch=arm ;; # a 64-bit kernel says armv8l to 32-bit programs; ARMv6 has no release
  esac
}

# is_known says whether there are releases for this platform.
is_known() {
  case ${os}_$arch in
    linux_amd64 | linux_arm64 | linux_arm | linux_ppc64le | linux_s390x) return 0 ;;
    darwin_amd64 | darwin_arm64 | windows_amd64 | windows_arm64 | freebsd_amd64 | freebsd_arm64) return 0 ;;
  esac
  return 1
}

# bytes prints N bytes of a file from an offset on, in hexadecimal.
bytes() {
  od -An -v -tx1 -j "$2" -N "$3" "$1" | tr -d ' \t\n'
}

# is_for_platform says by its first bytes, without running it, whether a program is for this platform.
is_for_platform() {
  head=$(bytes "$1" 0 20)
  case ${os}_$arch in
    linux_amd64) format='7f454c460201010[!9]????????????????????3e00' ;;
    linux_arm64) format='7f454c460201010[!9]????????????????????b700' ;;
    linux_arm) format='7f454c460101010[!9]????????????????????2800' ;;
    linux_ppc64le) format='7f454c460201010[!9]????????????????????1500' ;;
    linux_s390x) format='7f454c460202010[!9]????????????????????0016' ;;
    freebsd_amd64) format='7f454c4602010109????????????????????3e00' ;;
    freebsd_arm64) format='7f454c4602010109????????????????????b700' ;;
    darwin_amd64) format='cffaedfe07000001*' ;;
    darwin_arm64) format='cffaedfe0c000001*' ;;
    windows_amd64) format='504500006486' ;;
    windows_arm64) format='5045000064aa' ;;
    *) format= ;;
  esac
  if [ "$os" = windows ]; then
    case $head in 4d5a*) ;; *) return 1 ;; esac
    # Byte 60 says where the part begins that names the machine.
    offset=$(bytes "$1" 60 4 | sed 's/\(..\)\(..\)\(..\)\(..\)/\4\3\2\1/')
    head=$(bytes "$1" "$((0x0$offset))" 6)
  fi
  # shellcheck disable=SC2254 # it is a pattern
  case $head in
    $format) return 0 ;;
  esac
  return 1
}

# origin prints where this folder was cloned from. The file is read where it is: Helm may have been called in a folder
# of another repository or by a git hook, and the clone may belong to another user.
origin() {
  if [ -d .git ]; then
    git config --file .git/config --get remote.origin.url 2>/dev/null
  elif [ -f .git ]; then
    (
      unset GIT_DIR GIT_WORK_TREE
      git config --get remote.origin.url 2>/dev/null
    )
  fi
}

# repository prints the origin as https://host/path, or nothing where it isn't on a server. Credentials, and the port of
# anything but https, are left behind.
repository() {
  url=$(origin) || return 0
  case $url in
    https://* | http://* | ssh://* | git://* | git+ssh://* | ssh+git://*)
      scheme=${url%%://*}
      url=${url#*://}
      host=${url%%/*}
      path=${url#"$host"}
      host=${host##*@}
      [ "$scheme" = https ] || host=${host%%:*}
      ;;
    *://*) return 0 ;;
    *:*) # as scp has it: user@host:path
      host=${url%%:*}
      path=${url#*:}
      host=${host##*@}
      # One letter is a drive of Windows; and the colon may be part of a path.
      case $host in '' | ? | */*) return 0 ;; esac
      ;;
    *) return 0 ;;
  esac
  # GitHub's ssh for networks that let nothing but https pass.
  [ "$host" != ssh.github.com ] || host=github.com
  path=${path#/}
  path=${path%/}
  path=${path%.git}
  case $host in '' | *[!0-9A-Za-z.:-]*) return 0 ;; esac
  case $path in '' | *[!0-9A-Za-z._~/-]*) return 0 ;; esac
  printf 'https://%s/%s\n' "$host" "$path"
}

# is_home says whether this is a clone of the plugin's home. GitHub takes any case of letters.
is_home() {
  [ "$(printf %s "$repository" | tr '[:upper:]' '[:lower:]')" = "$home" ]
}

# identity prints who signs the releases: the workflow of the repository that this is a clone of, on GitHub, or of the
# plugin's home, whose releases a mirror carries.
identity() {
  signer=$home
  case $repository in
    https://github.com/*) is_home || signer=$repository ;;
  esac
  printf '%s/.github/workflows/release.yaml@refs/tags/v%s\n' "$signer" "$version"
}

# hide removes credentials from addresses.
hide() {
  sed 's|//[^/ ]*@|//|g'
}

# words prints, in one line and without credentials, what a program has said last, of curl the line that says what is
# wrong, which advice may follow.
words() {
  said=$(grep '^curl: (' "$work/words" || grep '[^[:space:]]' "$work/words" || :)
  printf '%s\n' "$said" | tail -n 1 | hide
}

# fetch URL FILE tries once: 0 it's there, 1 it might be the next time, 2 the server has no such file, 3 it can't be had.
# Sets why.
fetch() {
  code=
  why=
  exit=0
  if has curl; then
    # A redirection must not lead from https to http.
    protocols='=http,https'
    case $1 in https://*) protocols='=https' ;; esac
    run curl --fail --silent --show-error --location --proto "$protocols" --connect-timeout "$timeout" \
      --speed-time "$timeout" --speed-limit 100 --write-out '%{http_code}' --output "$2" "$1" \
      >"$work/code" 2>"$work/words" || exit=$?
    [ "$exit" != 22 ] || code=$(cat "$work/code")
  else
    fetch_by_wget "$1" "$2" || return 3
    code=$(sed -n -e 's/.*ERROR \([45][0-9][0-9]\).*/\1/p' -e 's/.* response \([45][0-9][0-9]\).*/\1/p' \
      -e 's|.*HTTP/[0-9.]* \([45][0-9][0-9]\).*|\1|p' "$work/words" | tail -n 1)
  fi
  [ "$exit" != 0 ] || return 0
  case $code in
    '') why=$(words) && why=${why:-"it ended with code $exit"} ;;
    *) why="the server answered $code" ;;
  esac
  case $code in
    404 | 410) return 2 ;;
    '' | 408 | 429 | 5??) return 1 ;;
  esac
  return 3
}

# fetch_by_wget sets exit. It fails and sets why where what has come can't be trusted to have come from the server, or where
# it takes so long that nobody would wait for another attempt; and removes it.
fetch_by_wget() {
  url=$1
  options=
  # A server that drips is never silent for long, which is what GNU's timeout is about.
  limit=
  bound=$((timeout * 30))
  ! has timeout || limit="timeout $bound"
  # GNU's would try again by itself. busybox's doesn't; it has crashed when told so, and when told a timeout.
  case $(wget --version 2>/dev/null || :) in
    *Wget2*) # GNU's successor
      why="this wget is wget2, which follows from https to http whatever it's told, and may call it a success when nothing came; install curl or GNU wget 1"
      return 1
      ;;
    *GNU*)
      kind=gnu
      options="--tries=1 --timeout=$timeout"
      ;;
    *) kind=other ;;
  esac
  # Neither can be told that a redirection must not lead from https to http. GNU's can be kept from following one, and is
  # told here where to go; busybox's says afterwards where it was.
  case ${url%%:*}_$kind in
    https_gnu) options="$options --max-redirect=0" ;;
    https_other)
      options=-S
      # Before, it took any certificate without saying so.
      release=$(wget --help 2>&1 | sed -n 's/^BusyBox v1\.\([0-9]\{1,4\}\)\..*/\1/p' || :)
      if [ "${release:-0}" -lt 34 ]; then
        why="this wget isn't known to check the server's certificate; install curl or GNU wget"
        return 1
      fi
      ;;
  esac
  hops=0
  while :; do
    exit=0
    # shellcheck disable=SC2086 # they are some words or none
    run $limit wget $options -O "$2" "$url" >"$work/code" 2>"$work/words" || exit=$?
    # busybox's timeout says nothing of its own; then wget has ended by SIGTERM.
    case $limit:$exit in
      timeout*:124 | timeout*:143)
        why="it took longer than $bound s"
        break
        ;;
    esac
    case $url in https://*) ;; *) return 0 ;; esac
    if grep -q 'certificate validation not implemented' "$work/words"; then
      why="this wget doesn't check the server's certificate; install curl or GNU wget"
      break
    fi
    to=$(tr -d '\r' <"$work/words" | sed -n 's/^ *[Ll][Oo][Cc][Aa][Tt][Ii][Oo][Nn]: *\([^ ]*\).*/\1/p')
    # Of a redirection to a place on the same server busybox keeps the protocol.
    unsafe=$(printf '%s\n' "$to" | grep -v -e '^[Hh][Tt][Tt][Pp][Ss]:' -e '^/' -e '^$' | head -n 1 | hide)
    if [ -n "$unsafe" ]; then
      why="it redirects from https to $unsafe"
      break
    fi
    to=$(printf '%s\n' "$to" | tail -n 1)
    [ "$kind" = gnu ] && [ "$exit" != 0 ] && [ -n "$to" ] || return 0
    hops=$((hops + 1))
    if [ "$hops" -gt 10 ]; then
      why="it redirects more than ten times"
      break
    fi
    server=${url#https://}
    case $to in
      //*) url=https:$to ;;
      /*) url=https://${server%%/*}$to ;;
      *) url=https://${to#*://} ;;
    esac
  done
  rm -f "$2"
  return 1
}

# obtain FILE puts a file of the release into the temporary folder. As fetch.
obtain() {
  if [ -n "$archive" ]; then
    if [ ! -f "$place/$1" ]; then
      why="there's no $1 in $place"
      return 2
    fi
    cp "$place/$1" "$work/$1" || fail "can't copy $place/$1."
    return 0
  fi
  pause=1
  while :; do
    fetch "$base/$1" "$work/$1" && return 0 || outcome=$?
    if [ "$outcome" != 1 ] || [ "$pause" -gt 4 ]; then
      why="$place/$1: $why"
      return "$outcome"
    fi
    say "$1: $why; trying again in $pause s."
    run sleep "$pause"
    pause=$((pause * 2))
  done
}

can_check() {
  has sha256sum || has shasum || has openssl || has sha256
}

# checksum_of prints the SHA-256 of a file by the first program that can.
checksum_of() {
  if has sha256sum; then
    sum=$(sha256sum "$1")
  elif has shasum; then
    sum=$(shasum -a 256 "$1")
  elif has openssl; then
    sum=$(openssl dgst -sha256 -r "$1")
  else
    sum=$(sha256 -q "$1")
  fi || return 1
  printf '%s\n' "${sum%% *}"
}

# check_cosign ends the installation unless cosign says that the release workflow has signed the checksum file.
check_cosign() {
  signer=$(identity)
  # Some versions need the flag, others don't know it.
  format=
  case $(cosign verify-blob --help 2>&1 || :) in *--new-bundle-format*) format=--new-bundle-format ;; esac
  # shellcheck disable=SC2086 # it is one word or none
  if ! run cosign verify-blob $format --bundle "$work/$bundle" --certificate-identity "$signer" \
    --certificate-oidc-issuer "$issuer" "$work/$checksums" >"$work/words" 2>&1; then
    cat "$work/words" >&2
    used=$(cosign version 2>&1 | sed -n 's/^GitVersion: *v\{0,1\}\([0-9][0-9.]*\).*/\1/p' || :)
    case $used in
      [0-2].* | 3.0.[0-4])
        fail "cosign is $used here, which is too old to check a release; nothing was installed." \
          "Install cosign 3.0.5 or newer."
        ;;
    esac
    # A signature has the letters of the repository's name as they are on GitHub, which takes any case of them.
    case $signer in
      "$home"/*) ;;
      *) set -- "If that isn't how GitHub writes the fork's name, install it by the name as it is there." ;;
    esac
    fail "cosign doesn't confirm that $checksums was signed by" "  $signer" \
      "so nothing was installed. What it has said is above." "$@" "If it couldn't reach sigstore's servers, let it, or read" \
      "docs/install.md on how to do without a network. Otherwise the release may have been tampered with: tell the" \
      "plugin's maintainers."
  fi
  confirmed=yes
  say "$checksums: cosign confirms the signature by $signer."
}

# gpg_says looks for one of some words where gpg puts them. Further on in a line is what others have chosen, such as the
# name of a key's owner.
gpg_says() {
  grep -Eq "^\[GNUPG:\] ($1)( |\$)" "$work/status"
}

# check_gpg ends the installation if the checksum file's gpg signature is bad. A signature of a key that the user doesn't
# have or doesn't trust is told, and proves nothing.
check_gpg() {
  # Without a keyring there's no key, and gpg would make one.
  if [ ! -d "${GNUPGHOME:-${HOME:-}/.gnupg}" ] && [ "$os" != windows ]; then
    say "$checksums: its gpg signature was NOT checked, there's no keyring with a key to check it by."
    return 0
  fi
  run gpg --batch --no-tty --status-fd 1 --verify "$work/$signature" "$work/$checksums" \
    >"$work/status" 2>"$work/words" || :
  if gpg_says 'BADSIG|EXPSIG|EXPKEYSIG|REVKEYSIG'; then
    :
  elif gpg_says GOODSIG; then
    signer=$(sed -n 's/^\[GNUPG:\] VALIDSIG \([0-9A-F]*\).*/\1/p' "$work/status" | head -n 1)
    if gpg_says 'TRUST_FULLY|TRUST_ULTIMATE'; then
      say "$checksums: gpg confirms the signature by the key $signer."
      confirmed=yes
    else
      say "$checksums: the gpg signature is right, but nothing vouches for its key $signer. Compare it with one from a source that you trust."
    fi
    return 0
  elif gpg_says NO_PUBKEY; then
    signer=$(sed -n 's/^\[GNUPG:\] NO_PUBKEY //p' "$work/status" | head -n 1)
    say "$checksums: its gpg signature was NOT checked, the key $signer is not in your keyring."
    return 0
  fi
  cat "$work/words" >&2
  fail "gpg doesn't confirm the signature of $checksums, so nothing was installed." \
    "The release may have been tampered with, or the key has expired or was revoked: tell who has signed it."
}

# check_signatures checks the checksum file's signatures by what is there to check them. One that is published but can't
# be had now is no reason to go on without, and neither is one that is missing: who can change a release can take it away.
check_signatures() {
  checked=
  confirmed=
  tools='cosign gpg'
  means='cosign 3.0.5 or newer on the PATH, or gpg and a key that you trust'
  # The plugin's home signs by nothing else, so there another signature is somebody else's.
  if is_home && { [ -n "$archive" ] || [ -z "${HELM_PARALLEL_HOOKS_BASE_URL:-}" ]; }; then
    tools=cosign
    means='cosign 3.0.5 or newer on the PATH'
  fi
  for tool in $tools; do
    has "$tool" || continue
    file=$bundle
    [ "$tool" = cosign ] || file=$signature
    outcome=0
    obtain "$file" || outcome=$?
    case $outcome in
      0)
        checked=yes
        "check_$tool"
        ;;
      2) ;;
      *) return 1 ;;
    esac
  done
  [ -z "$confirmed" ] || return 0
  if [ "$required" = 1 ]; then
    fail "nothing confirms a signature of $checksums in $place, and HELM_PARALLEL_HOOKS_REQUIRE_SIGNATURE is 1, so nothing was installed." \
      "It takes a release that is signed, and $means."
  fi
  if has cosign && [ "$unsigned" != 1 ]; then
    fail "there's no $bundle in $place, though releases are signed, so nothing was installed." \
      "Somebody may have taken it away. If this is a mirror or a fork that doesn't sign, set HELM_PARALLEL_HOOKS_UNSIGNED=1."
  fi
  [ -n "$checked" ] || say "$checksums: no signature was checked; that takes one that's published, and $means."
}

# get_release puts the release's binary, verified, into the temporary folder. It fails and sets why where it can't be
# had, and ends the installation where it isn't what it should be.
get_release() {
  asset=helm-parallel-hooks_${version}_${os}_$arch.tar.gz
  if ! is_known; then
    why="there are no releases for $os on $arch"
    return 1
  fi
  if [ -n "$archive" ]; then
    place=${archive%/*}
    [ "${archive##*/}" = "$asset" ] ||
      fail "HELM_PARALLEL_HOOKS_ARCHIVE must name a file $asset, which is what this version and platform need, not ${archive##*/}."
  elif [ -n "${HELM_PARALLEL_HOOKS_BASE_URL:-}" ]; then
    base=${HELM_PARALLEL_HOOKS_BASE_URL%/}
    case $base in
      https://?* | http://?*) ;;
      *) fail "HELM_PARALLEL_HOOKS_BASE_URL must begin with https:// or http://." ;;
    esac
  elif [ -n "$repository" ]; then
    base=$repository/releases/download
  else
    why="the plugin doesn't come from a server, so there's no releases page to take it from"
    return 1
  fi
  if [ -z "$archive" ]; then
    base=$base/v$version
    place=$(printf '%s\n' "$base" | sed 's|//[^/]*@|//|')
  fi
  if [ -z "$archive" ] && ! has curl && ! has wget; then
    why="neither curl nor wget is there"
    return 1
  fi
  if ! can_check; then
    why="none of sha256sum, shasum, openssl and sha256 is there to check a download with"
    return 1
  fi
  for tool in tar od; do
    if ! has "$tool"; then
      why="$tool is not there"
      return 1
    fi
  done

  obtain "$checksums" || return 1
  if [ ! -s "$work/$checksums" ] || grep -Eqv '^[0-9a-f]{64} [ *][^ /]+$' "$work/$checksums"; then
    why="$place/$checksums is not a checksum file; maybe a proxy has answered instead"
    return 1
  fi
  check_signatures || return 1
  want=$(sed -n "s/ [ *]$(printf %s "$asset" | sed 's/[.]/[.]/g')\$//p" "$work/$checksums")
  case $want in
    '')
      why="release $version has no binary for $os on $arch"
      return 1
      ;;
    *[!0-9a-f]*) fail "$checksums of release $version names $asset more than once. Nothing was installed." ;;
  esac
  say "Taking $asset from $place."
  obtain "$asset" || return 1
  got=$(checksum_of "$work/$asset") || fail "can't compute the checksum of $asset."
  if [ "$got" != "$want" ]; then
    fail "the checksum of $asset is wrong, so nothing was installed:" "  $got, not $want" \
      "The download was damaged or tampered with. If it happens again, tell the plugin's maintainers."
  fi

  mkdir "$work/unpacked"
  # Just the one file, and as the user's own.
  if ! run tar -xzof "$work/$asset" -C "$work/unpacked" "$binary"; then
    has gzip || fail "can't unpack $asset: gzip is not there, which most versions of tar need. Install it."
    fail "can't unpack $asset. If there is room on the disk, tell the plugin's maintainers."
  fi
  new=$work/unpacked/$binary
  if [ ! -f "$new" ] || [ -L "$new" ] || ! is_for_platform "$new"; then
    fail "$binary in $asset is no program for $os on $arch. Nothing was installed; tell the plugin's maintainers."
  fi
}

# stamp prints, for the linker, which commit is checked out here, and nothing where git can't say. What surrounds the
# folder, or a hook of git's that Helm runs in, has no say.
stamp() {
  [ -e .git ] && has git || return 0
  (
    unset GIT_DIR GIT_WORK_TREE GIT_COMMON_DIR GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_NAMESPACE
    said=$(TZ=UTC0 git --git-dir=.git log -1 --no-show-signature --format='%H %cd' \
      --date=format-local:%Y-%m-%dT%H:%M:%SZ 2>/dev/null) || exit 0
    case $said in *[!0-9a-zTZ:\ -]* | '' | ' '*) exit 0 ;; esac
    changed=$(git --no-optional-locks --git-dir=.git --work-tree=. status --porcelain 2>/dev/null) || exit 0
    printf ' -X main.commit=%s -X main.date=%s' "${said%% *}${changed:+-dirty}" "${said#* }"
  )
}

# build_from_source builds the binary with the Go toolchain.
build_from_source() {
  new=$work/built
  say "Building helm-parallel-hooks $version with $(go env GOVERSION); this takes several minutes the first time."
  stamp=$(stamp)
  # For this machine, whatever the user's own builds are for.
  os=$(go env GOHOSTOS)
  arch=$(go env GOHOSTARCH)
  # Neither a C compiler is needed, nor may go ask git, of which it knows too
  # little here: if the clone belongs to another user, it would refuse to build.
  # And neither a go.work file above it may have a say nor what the user has set
  # of flags, by go env -w as well, which counts where the variable is empty. Its
  # temporary files go where they are removed after a signal, too.
  run env CGO_ENABLED=0 GOWORK=off GOFLAGS=-trimpath "GOOS=$os" "GOARCH=$arch" "GOTMPDIR=$plugin/$work" \
    go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$version$stamp" -o "$new" . ||
    fail "the build failed. Mend what is said above."
  if is_known && has od && ! is_for_platform "$new"; then
    fail "what was built is no program for $os on $arch. Look at what the go on the PATH is."
  fi
}

main() {
  binary=
  child=
  work=
  again=
  user=$PWD
  # Helm calls the script by the path that it has for the plugin, which is a link where it was told a local folder.
  plugin=$(dirname -- "$0")
  linked=
  if [ -L "${plugin%/}" ]; then
    linked=yes
  fi
  cd -- "$plugin" || fail "can't change to the plugin's folder $plugin. Run the script by its path in there."
  plugin=$PWD
  if [ ! -f plugin.yaml ] || ! is_plugin; then
    fail "$plugin is not the plugin's folder, there's no plugin.yaml with the name parallel-hooks." \
      "Run the script in the folder that \"helm plugin install\" has made."
  fi
  again="sh $(quote "$plugin/install-binary.sh")"
  version=$(plugin_version)
  [ -n "$version" ] || fail "plugin.yaml doesn't say the version. Take plugin.yaml from the repository."

  archive=${HELM_PARALLEL_HOOKS_ARCHIVE:-}
  timeout=${HELM_PARALLEL_HOOKS_TIMEOUT:-30}
  unsigned=${HELM_PARALLEL_HOOKS_UNSIGNED:-0}
  required=${HELM_PARALLEL_HOOKS_REQUIRE_SIGNATURE:-0}
  case $timeout in
    '' | 0* | *[!0-9]*) fail "HELM_PARALLEL_HOOKS_TIMEOUT must be a number of seconds, at least 1." ;;
  esac
  case $unsigned in 0 | 1) ;; *) fail "HELM_PARALLEL_HOOKS_UNSIGNED must be 0 or 1." ;; esac
  case $required in 0 | 1) ;; *) fail "HELM_PARALLEL_HOOKS_REQUIRE_SIGNATURE must be 0 or 1." ;; esac
  if [ -n "$archive" ]; then
    ! has cygpath || archive=$(cygpath -u "$archive")
    case $archive in /*) ;; *) archive=$user/$archive ;; esac
    [ -f "$archive" ] || fail "HELM_PARALLEL_HOOKS_ARCHIVE names $archive, which is not there."
  fi
  find_platform
  binary=bin/helm-parallel-hooks
  [ "$os" != windows ] || binary=$binary.exe
  repository=$(repository)
  source=
  [ ! -f go.mod ] || source=yes

  # An archive that was installed as a plugin brings the binary and no source.
  if [ -z "$source" ] && [ -f "$binary" ]; then
    [ "$required" != 1 ] ||
      fail "of an archive that is installed as a plugin no signature can be checked here, and HELM_PARALLEL_HOOKS_REQUIRE_SIGNATURE is 1." \
        "Check it by hand as docs/install.md says, and set that to 0."
    has od || fail "od is not there to look at the binary with. Install it."
    if ! is_for_platform "$binary"; then
      again="helm plugin uninstall parallel-hooks"
      fail "the binary in this archive is not for $os on $arch. Install helm-parallel-hooks_${version}_${os}_$arch.tar.gz of the same release" \
        "in its place."
    fi
    chmod 755 "$binary" || fail "can't make $plugin/$binary executable."
    say "Installed $plugin/$binary."
    return
  fi

  mkdir -p bin || fail "can't make the folder $plugin/bin. Make room for it, or see who owns $plugin."
  # What a run has left that was killed. Another one may be at work.
  ! has find || find bin/.new.* -prune -type d -mtime +0 -exec rm -rf {} + 2>/dev/null || :
  exec 3>&2
  trap clean EXIT
  trap 'stop 129' HUP
  trap 'stop 130' INT
  trap 'stop 141' PIPE
  trap 'stop 143' TERM
  # The number of a process is another one's in another container.
  if has mktemp; then
    work=$(mktemp -d bin/.new.XXXXXX 2>/dev/null) || work=
  elif mkdir bin/.new.$$ 2>/dev/null; then
    work=bin/.new.$$
  fi
  [ -n "$work" ] || fail "can't write to the folder $plugin/bin. See who owns it, and what is in it."

  if [ -n "$linked" ] && [ -n "$source" ] && [ -z "$archive" ] && has go; then
    say "$plugin is a link to a folder of yours, so the binary is built from what is there."
    build_from_source
  elif get_release; then
    :
  elif [ -n "$archive" ]; then
    fail "the archive can't be used: $why." "$checksums of the same release must be beside it."
  elif [ -z "$source" ]; then
    again="helm plugin uninstall parallel-hooks"
    fail "no binary: $why, and there's no source here to build one from." \
      "Install the plugin from its git repository or from a release's archive."
  elif ! has go; then
    fail "no binary of release $version can be had: $why." "No Go toolchain was found to build one with either." \
      "Mend that, or install Go from https://go.dev/dl/ and put it on the PATH."
  else
    say "No binary of release $version can be had: $why."
    build_from_source
  fi

  chmod 755 "$new"
  # mv would move it into a folder of that name.
  [ ! -d "$binary" ] || fail "$plugin/$binary is a folder. Remove it."
  mv -f "$new" "$binary" || fail "can't write $plugin/$binary. If it's running, end it."
  # Nothing can end it any more.
  trap '' HUP INT PIPE TERM
  say "Installed $plugin/$binary."
}

# The last line, so that a part of the script does nothing.
main
