# Puts the plugin's binary into the bin folder of the folder that this script is in, on Windows: that of the release which
# plugin.yaml names, or one built from the source where the release's can't be had. It does what install-binary.sh does, but
# that a folder that Helm has linked to is like any other. It's for those who have no sh: Helm's hooks need one, so there
# "helm plugin install" and "helm plugin update" end with an error after they have fetched the plugin, and this is run by
# hand:
#
#   powershell -ExecutionPolicy Bypass -File "$(helm env HELM_PLUGINS)\helm-parallel-hooks\install-binary.ps1"
#
# It needs curl.exe and tar.exe, which come with Windows since 2018. docs/install.md says more.
$ErrorActionPreference = 'Stop'
Set-StrictMode -Version 2.0

# Where the releases of a clone are signed whose origin isn't on GitHub, such as a mirror's.
$pluginHome = 'https://github.com/helm-parallel-hooks/helm-parallel-hooks'
$checksums = 'checksums.txt'
$bundle = 'checksums.txt.sigstore.json'
$signature = 'checksums.txt.asc'
$issuer = 'https://token.actions.githubusercontent.com'
$binary = 'bin\helm-parallel-hooks.exe'

# Deny ends the installation: what is wrong is no reason to build instead.
$denied = $false
function Deny([string] $message) {
    $script:denied = $true
    throw $message
}

function Test-Program([string] $name) {
    return [bool](Get-Command $name -CommandType Application -ErrorAction SilentlyContinue)
}

# Invoke-Program runs a program and returns its exit code and what it has said. Windows PowerShell would take a line on
# stderr for an error.
function Invoke-Program([string] $program, [string[]] $arguments) {
    $before = $ErrorActionPreference
    $ErrorActionPreference = 'Continue'
    try {
        $words = @(& $program @arguments 2>&1 | ForEach-Object { "$_" })
        return @{ Code = $LASTEXITCODE; Words = $words }
    } finally {
        $ErrorActionPreference = $before
    }
}

function Hide-Credentials([string] $text) {
    return $text -replace '//[^/ ]*@', '//'
}

function Get-Platform {
    # A 32-bit or emulated PowerShell is told another architecture than the machine's.
    $architecture = $env:PROCESSOR_ARCHITECTURE
    if ($env:PROCESSOR_ARCHITEW6432) { $architecture = $env:PROCESSOR_ARCHITEW6432 }
    switch ($architecture) {
        'AMD64' { return 'windows_amd64' }
        'ARM64' { return 'windows_arm64' }
    }
    return ''
}

# Test-Binary says by its first bytes, without running it, whether a program is for a platform.
function Test-Binary([string] $path, [string] $platform) {
    $bytes = [System.IO.File]::ReadAllBytes((Join-Path (Get-Location) $path))
    if ($bytes.Length -lt 64 -or $bytes[0] -ne 0x4d -or $bytes[1] -ne 0x5a) { return $false }
    # Byte 60 says where the part begins that names the machine.
    $offset = [System.BitConverter]::ToInt32($bytes, 60)
    if ($offset -lt 0 -or $offset + 6 -gt $bytes.Length) { return $false }
    if ([System.BitConverter]::ToUInt32($bytes, $offset) -ne 0x4550) { return $false }
    $machine = [System.BitConverter]::ToUInt16($bytes, $offset + 4)
    return ($platform -eq 'windows_amd64' -and $machine -eq 0x8664) -or ($platform -eq 'windows_arm64' -and $machine -eq 0xaa64)
}

# Get-Repository returns the origin of this clone as https://host/path, or nothing where it isn't on a server. Credentials,
# and the port of anything but https, are left behind.
function Get-Repository {
    if (-not (Test-Path '.git\config') -or -not (Test-Program 'git')) { return '' }
    $answer = Invoke-Program 'git' @('config', '--file', '.git/config', '--get', 'remote.origin.url')
    if ($answer.Code -ne 0 -or $answer.Words.Count -eq 0) { return '' }
    $url = $answer.Words[0]
    if ($url -match '^(https|http|ssh|git|git\+ssh|ssh\+git)://([^/]*)/(.*)$') {
        $scheme, $server, $path = $Matches[1], $Matches[2], $Matches[3]
        $server = $server -replace '^.*@', ''
        if ($scheme -ne 'https') { $server = $server -replace ':.*$', '' }
    } elseif ($url -notmatch '://' -and $url -match '^([^/:]*):(.*)$') {
        # As scp has it: user@host:path. One letter is a drive.
        $server, $path = ($Matches[1] -replace '^.*@', ''), $Matches[2]
        if ($server.Length -lt 2) { return '' }
    } else {
        return ''
    }
    # GitHub's ssh for networks that let nothing but https pass.
    if ($server -eq 'ssh.github.com') { $server = 'github.com' }
    $path = $path -replace '^/', '' -replace '/$', '' -replace '\.git$', ''
    if ($server -notmatch '^[0-9A-Za-z.:-]+$' -or $path -notmatch '^[0-9A-Za-z._~/-]+$') { return '' }
    return "https://$server/$path"
}

# Get-Identity returns who signs the releases: the workflow of the repository that this is a clone of, on GitHub, or of
# the plugin's home, whose releases a mirror carries.
function Get-Identity([string] $repository, [string] $version) {
    $signer = $pluginHome
    # GitHub takes any case of letters, the signature has the true one.
    if ($repository -like 'https://github.com/*' -and $repository -ne $pluginHome) { $signer = $repository }
    return "$signer/.github/workflows/release.yaml@refs/tags/v$version"
}

# Get-File puts a file of the release into the temporary folder. It returns whether there is one, and throws where that
# can't be told.
function Get-File($release, [string] $name) {
    if ($release.Archive) {
        $path = Join-Path $release.Place $name
        if (-not (Test-Path -LiteralPath $path -PathType Leaf)) { return $false }
        Copy-Item -LiteralPath $path -Destination (Join-Path $work $name)
        return $true
    }
    $url = "$($release.Base)/$name"
    # A redirection must not lead from https to http.
    $protocols = '=http,https'
    if ($url -like 'https://*') { $protocols = '=https' }
    $arguments = @('--fail', '--silent', '--show-error', '--location', '--proto', $protocols, '--connect-timeout', "$timeout",
        '--speed-time', "$timeout", '--speed-limit', '100', '--write-out', '%{http_code}', '--output', "$work/$name", $url)
    for ($pause = 1; ; $pause *= 2) {
        $answer = Invoke-Program 'curl.exe' $arguments
        if ($answer.Code -eq 0) { return $true }
        $status = 0
        if ($answer.Code -eq 22 -and "$($answer.Words)" -match '([45][0-9][0-9])\s*$') { $status = [int]$Matches[1] }
        if ($status -eq 404 -or $status -eq 410) { return $false }
        $why = Hide-Credentials "$($answer.Words)"
        $lasting = $status -ge 400 -and $status -lt 500 -and $status -ne 408 -and $status -ne 429
        if ($lasting -or $pause -gt 4) { throw "$($release.Place)/${name}: $why" }
        Write-Host "${name}: $why; trying again in $pause s."
        Start-Sleep -Seconds $pause
    }
}

function Assert-Cosign([string] $identity) {
    # Some versions need the flag, others don't know it.
    $format = @()
    if ("$((Invoke-Program 'cosign' @('verify-blob', '--help')).Words)" -match '--new-bundle-format') { $format = @('--new-bundle-format') }
    $answer = Invoke-Program 'cosign' (@('verify-blob') + $format + @('--bundle', "$work/$bundle",
            '--certificate-identity', $identity, '--certificate-oidc-issuer', $issuer, "$work/$checksums"))
    if ($answer.Code -ne 0) {
        $answer.Words | ForEach-Object { Write-Host $_ }
        $used = ''
        foreach ($line in (Invoke-Program 'cosign' @('version')).Words) {
            if ($line -match '^GitVersion: *v?([0-9][0-9.]*)') { $used = $Matches[1] }
        }
        if ($used -match '^([0-2]\.|3\.0\.[0-4]$)') {
            Deny "cosign is $used here, which is too old to check a release; nothing was installed. Install cosign 3.0.5 or newer."
        }
        # A signature has the letters of the repository's name as they are on GitHub, which takes any case of them.
        $advice = ''
        if ($identity -notlike "$pluginHome/*") { $advice = "If that isn't how GitHub writes the fork's name, install it by the name as it is there. " }
        Deny "cosign doesn't confirm that $checksums was signed by $identity, so nothing was installed. What it has said is above. ${advice}If it couldn't reach sigstore's servers, let it. Otherwise the release may have been tampered with: tell the plugin's maintainers."
    }
    Write-Host "${checksums}: cosign confirms the signature by $identity."
}

# Test-GPG returns whether gpg confirms the signature, and denies a bad one. What gpg says for programs is in a file of its
# own and at the beginning of a line; further on is what others have chosen, such as the name of a key's owner.
function Test-GPG {
    $answer = Invoke-Program 'gpg' @('--batch', '--no-tty', '--status-file', "$work/status", '--verify', "$work/$signature", "$work/$checksums")
    $status = @()
    if (Test-Path -LiteralPath "$work\status") { $status = @(Get-Content -LiteralPath "$work\status") }
    $good, $bad, $trusted, $key, $missing = $false, $false, $false, '', ''
    foreach ($line in $status) {
        if ($line -cmatch '^\[GNUPG:\] GOODSIG( |$)') { $good = $true }
        if ($line -cmatch '^\[GNUPG:\] (BADSIG|EXPSIG|EXPKEYSIG|REVKEYSIG)( |$)') { $bad = $true }
        if ($line -cmatch '^\[GNUPG:\] (TRUST_FULLY|TRUST_ULTIMATE)( |$)') { $trusted = $true }
        if ($line -cmatch '^\[GNUPG:\] VALIDSIG ([0-9A-F]+)') { $key = $Matches[1] }
        if ($line -cmatch '^\[GNUPG:\] NO_PUBKEY ([0-9A-F]+)') { $missing = $Matches[1] }
    }
    if ($good -and -not $bad) {
        if ($trusted) {
            Write-Host "${checksums}: gpg confirms the signature by the key $key."
        } else {
            Write-Host "${checksums}: the gpg signature is right, but nothing vouches for its key $key. Compare it with one from a source that you trust."
        }
        return $trusted
    }
    if ($missing -and -not $bad) {
        Write-Host "${checksums}: its gpg signature was NOT checked, the key $missing is not in your keyring."
        return $false
    }
    $answer.Words | ForEach-Object { Write-Host $_ }
    Deny "gpg doesn't confirm the signature of $checksums, so nothing was installed. The release may have been tampered with, or the key has expired or was revoked: tell who has signed it."
}

# Get-Release puts the release's binary, verified, into the temporary folder and returns its path. It throws where it
# can't be had, and denies what isn't what it should be.
function Get-Release([string] $version, [string] $platform, [string] $repository) {
    if (-not $platform) { throw "there are no releases for Windows on $env:PROCESSOR_ARCHITECTURE" }
    $asset = "helm-parallel-hooks_${version}_$platform.tar.gz"
    $release = @{ Archive = $archive; Base = ''; Place = '' }
    if ($archive) {
        if ((Split-Path $archive -Leaf) -ne $asset) {
            Deny "HELM_PARALLEL_HOOKS_ARCHIVE must name a file $asset, which is what this version and platform need."
        }
        $release.Place = Split-Path $archive -Parent
    } else {
        if ($env:HELM_PARALLEL_HOOKS_BASE_URL) {
            $base = $env:HELM_PARALLEL_HOOKS_BASE_URL -replace '/$', ''
            if ($base -notmatch '^https?://.') { Deny 'HELM_PARALLEL_HOOKS_BASE_URL must begin with https:// or http://.' }
        } elseif ($repository) {
            $base = "$repository/releases/download"
        } else {
            throw "the plugin doesn't come from a server, so there's no releases page to take it from"
        }
        $release.Base = "$base/v$version"
        $release.Place = Hide-Credentials $release.Base
        if (-not (Test-Program 'curl.exe')) { throw 'curl.exe is not there' }
    }
    if (-not (Test-Program 'tar.exe')) { throw 'tar.exe is not there' }

    if (-not (Get-File $release $checksums)) { throw "there's no $checksums in $($release.Place)" }
    $lines = @(Get-Content -LiteralPath "$work\$checksums")
    if ($lines.Count -eq 0 -or @($lines | Where-Object { $_ -cnotmatch '^[0-9a-f]{64} [ *][^ /]+$' }).Count -gt 0) {
        throw "$($release.Place)/$checksums is not a checksum file; maybe a proxy has answered instead"
    }

    # One that is missing is no reason to go on without: who can change a release can take it away.
    $checked, $confirmed = $false, $false
    # The plugin's home signs by nothing else, so there another signature is somebody else's.
    $byGPG = $repository -ne $pluginHome -or ($env:HELM_PARALLEL_HOOKS_BASE_URL -and -not $archive)
    $means = 'cosign 3.0.5 or newer on the PATH'
    if ($byGPG) { $means = 'cosign 3.0.5 or newer on the PATH, or gpg and a key that you trust' }
    if ((Test-Program 'cosign') -and (Get-File $release $bundle)) {
        Assert-Cosign (Get-Identity $repository $version)
        $checked, $confirmed = $true, $true
    }
    if ($byGPG -and (Test-Program 'gpg') -and (Get-File $release $signature)) {
        $checked = $true
        if (Test-GPG) { $confirmed = $true }
    }
    if (-not $confirmed) {
        if ($required) {
            Deny "nothing confirms a signature of $checksums in $($release.Place), and HELM_PARALLEL_HOOKS_REQUIRE_SIGNATURE is 1, so nothing was installed. It takes a release that is signed, and $means."
        }
        if ((Test-Program 'cosign') -and -not $unsigned) {
            Deny "there's no $bundle in $($release.Place), though releases are signed, so nothing was installed. Somebody may have taken it away. If this is a mirror or a fork that doesn't sign, set HELM_PARALLEL_HOOKS_UNSIGNED=1."
        }
        if (-not $checked) { Write-Host "${checksums}: no signature was checked; that takes one that's published, and $means." }
    }

    $wanted = @($lines | Where-Object { $_.Substring(66) -ceq $asset } | ForEach-Object { $_.Substring(0, 64) })
    if ($wanted.Count -eq 0) { throw "release $version has no binary for $platform" }
    if ($wanted.Count -gt 1) { Deny "$checksums of release $version names $asset more than once. Nothing was installed." }
    Write-Host "Taking $asset from $($release.Place)."
    if (-not (Get-File $release $asset)) { throw "there's no $asset in $($release.Place)" }
    $got = (Get-FileHash -LiteralPath "$work\$asset" -Algorithm SHA256).Hash.ToLowerInvariant()
    if ($got -cne $wanted[0]) {
        Deny "the checksum of $asset is wrong, so nothing was installed: $got, not $($wanted[0]). The download was damaged or tampered with."
    }

    New-Item -ItemType Directory -Path "$work\unpacked" | Out-Null
    # Just the one file.
    $answer = Invoke-Program 'tar.exe' @('-xzf', "$work/$asset", '-C', "$work/unpacked", 'bin/helm-parallel-hooks.exe')
    if ($answer.Code -ne 0) { Deny "can't unpack ${asset}: $($answer.Words)" }
    $new = "$work\unpacked\$binary"
    if (-not (Test-Path -LiteralPath $new -PathType Leaf) -or -not (Test-Binary $new $platform)) {
        Deny "$binary in $asset is no program for $platform. Nothing was installed; tell the plugin's maintainers."
    }
    return $new
}

# Get-Stamp returns, for the linker, which commit is checked out here, and nothing where git can't say.
function Get-Stamp {
    if (-not (Test-Path '.git') -or -not (Test-Program 'git')) { return '' }
    $env:TZ = 'UTC0'
    $said = Invoke-Program 'git' @('--git-dir=.git', 'log', '-1', '--no-show-signature', '--format=%H %cd', '--date=format-local:%Y-%m-%dT%H:%M:%SZ')
    if ($said.Code -ne 0 -or $said.Words.Count -ne 1 -or $said.Words[0] -cnotmatch '^([0-9a-f]+) ([0-9TZ:-]+)$') { return '' }
    $commit, $date = $Matches[1], $Matches[2]
    $changed = Invoke-Program 'git' @('--no-optional-locks', '--git-dir=.git', '--work-tree=.', 'status', '--porcelain')
    if ($changed.Code -ne 0) { return '' }
    if ($changed.Words.Count -gt 0) { $commit = "$commit-dirty" }
    return " -X main.commit=$commit -X main.date=$date"
}

function New-Binary([string] $version) {
    Write-Host "Building helm-parallel-hooks $version with Go; this takes several minutes the first time."
    # The script may be run in the user's own session, whose environment is to stay what it was.
    $before = @{}
    foreach ($name in 'TZ', 'CGO_ENABLED', 'GOWORK', 'GOFLAGS', 'GOOS', 'GOARCH') { $before[$name] = [Environment]::GetEnvironmentVariable($name) }
    try {
        return Invoke-Build $version
    } finally {
        foreach ($name in $before.Keys) { [Environment]::SetEnvironmentVariable($name, $before[$name]) }
    }
}

function Invoke-Build([string] $version) {
    $stamp = Get-Stamp
    $env:CGO_ENABLED = '0'
    $env:GOWORK = 'off'
    # Empty, it would be what go env -w has set.
    $env:GOFLAGS = '-trimpath'
    # For this machine, whatever the user's own builds are for.
    $env:GOOS = "$((Invoke-Program 'go' @('env', 'GOHOSTOS')).Words)"
    $env:GOARCH = "$((Invoke-Program 'go' @('env', 'GOHOSTARCH')).Words)"
    $answer = Invoke-Program 'go' @('build', '-trimpath', '-buildvcs=false', '-ldflags', "-s -w -X main.version=$version$stamp", '-o', "$work/built.exe", '.')
    $answer.Words | ForEach-Object { Write-Host $_ }
    if ($answer.Code -ne 0) { Deny 'the build failed. Mend what is said above.' }
    if (-not (Test-Binary "$work\built.exe" "${env:GOOS}_$env:GOARCH")) {
        Deny "what was built is no program for $env:GOOS on $env:GOARCH. Look at what the go on the PATH is."
    }
    return "$work\built.exe"
}

# Get-Switch returns whether a setting is 1.
function Get-Switch([string] $name, [string] $value) {
    if ($value -notin '', '0', '1') { throw "$name must be 0 or 1." }
    return $value -eq '1'
}

function Install-Binary {
    if ($PSVersionTable.PSVersion.Major -ge 6 -and -not $IsWindows) { throw 'this is for Windows. Run install-binary.sh instead.' }
    $version, $named = '', $false
    if (Test-Path 'plugin.yaml') {
        foreach ($line in Get-Content 'plugin.yaml') {
            if ($line -match '^version: *"?([0-9A-Za-z.+-]+)"? *$') { $version = $Matches[1] }
            if ($line -cmatch '^name: *"?parallel-hooks"? *$') { $named = $true }
        }
    }
    if (-not $named) { throw "$(Get-Location) is not the plugin's folder, there's no plugin.yaml with the name parallel-hooks." }
    if (-not $version) { throw "plugin.yaml doesn't say the version. Take plugin.yaml from the repository." }
    if ($env:HELM_PARALLEL_HOOKS_TIMEOUT) {
        if ($env:HELM_PARALLEL_HOOKS_TIMEOUT -notmatch '^[1-9][0-9]{0,8}$') { throw 'HELM_PARALLEL_HOOKS_TIMEOUT must be a number of seconds, at least 1.' }
        $script:timeout = [int]$env:HELM_PARALLEL_HOOKS_TIMEOUT
    }
    $script:unsigned = Get-Switch 'HELM_PARALLEL_HOOKS_UNSIGNED' $env:HELM_PARALLEL_HOOKS_UNSIGNED
    $script:required = Get-Switch 'HELM_PARALLEL_HOOKS_REQUIRE_SIGNATURE' $env:HELM_PARALLEL_HOOKS_REQUIRE_SIGNATURE
    if ($archive -and -not (Test-Path -LiteralPath $archive -PathType Leaf)) { throw "HELM_PARALLEL_HOOKS_ARCHIVE names $archive, which is not there." }
    $platform = Get-Platform
    $source = Test-Path 'go.mod'

    # An archive that was installed as a plugin brings the binary and no source.
    if (-not $source -and (Test-Path -LiteralPath $binary -PathType Leaf)) {
        if ($required) {
            throw "of an archive that is installed as a plugin no signature can be checked here, and HELM_PARALLEL_HOOKS_REQUIRE_SIGNATURE is 1. Check it by hand as docs/install.md says, and set that to 0."
        }
        if (-not (Test-Binary $binary $platform)) {
            throw "the binary in this archive is not for $platform. Run `"helm plugin uninstall parallel-hooks`" and install the archive that is."
        }
        Write-Host "Installed $(Join-Path (Get-Location) $binary)."
        return
    }

    # What a run has left that was killed. Another one may be at work.
    Get-ChildItem -Path 'bin' -Filter '.new.*' -Force -ErrorAction SilentlyContinue |
        Where-Object { $_.LastWriteTime -lt [DateTime]::Now.AddDays(-1) } |
        ForEach-Object { Remove-Item -LiteralPath $_.FullName -Recurse -Force -ErrorAction SilentlyContinue }
    New-Item -ItemType Directory -Force -Path $work | Out-Null
    try {
        $new = Get-Release $version $platform (Get-Repository)
    } catch {
        if ($denied) { throw }
        $why = $_.Exception.Message
        if ($archive) { throw "the archive can't be used: $why. $checksums of the same release must be beside it." }
        if (-not $source) { throw "no binary: $why, and there's no source here to build one from." }
        if (-not (Test-Program 'go')) {
            throw "no binary of release $version can be had: $why. No Go toolchain was found to build one with either. Mend that, or install Go from https://go.dev/dl/."
        }
        Write-Host "No binary of release $version can be had: $why."
        $new = New-Binary $version
    }
    if (Test-Path -LiteralPath $binary -PathType Container) { throw "$binary is a folder. Remove it." }
    # In one step; an old one that is running stays, and that is an error.
    $from, $to = (Join-Path (Get-Location) $new), (Join-Path (Get-Location) $binary)
    if (Test-Path -LiteralPath $binary) {
        [System.IO.File]::Replace($from, $to, [NullString]::Value)
    } else {
        [System.IO.File]::Move($from, $to)
    }
    Write-Host "Installed $(Join-Path (Get-Location) $binary)."
}

$work = "bin\.new.$([System.IO.Path]::GetRandomFileName())"
$timeout = 30
$unsigned = $false
$required = $false
$archive = ''
if ($env:HELM_PARALLEL_HOOKS_ARCHIVE) {
    $archive = $ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($env:HELM_PARALLEL_HOOKS_ARCHIVE)
}
$code = 0
Push-Location -LiteralPath $PSScriptRoot
try {
    Install-Binary
} catch {
    [Console]::Error.WriteLine("helm-parallel-hooks: $($_.Exception.Message)")
    [Console]::Error.WriteLine("helm-parallel-hooks: Then run: powershell -ExecutionPolicy Bypass -File `"$PSCommandPath`"")
    $code = 1
} finally {
    Remove-Item -LiteralPath $work -Recurse -Force -ErrorAction SilentlyContinue
    Pop-Location
}
exit $code
