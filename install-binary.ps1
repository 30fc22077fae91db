# Puts the plugin's binary into the bin folder of the folder that this script is in, on Windows: that of the release which
# plugin.yaml names, or one built from the source where the release's can't be had. It does what install-binary.sh does,
# for those who have no sh: Helm's hooks need one, so there "helm plugin install" and "helm plugin update" end with an
# error after they have fetched the plugin, and this is run by hand:
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
        Deny "cosign doesn't confirm that $checksums was signed by $identity, so nothing was installed."
    }
    Write-Host "${checksums}: cosign confirms the signature by $identity."
}

function Assert-GPG {
    $answer = Invoke-Program 'gpg' @('--batch', '--no-tty', '--status-fd', '1', '--verify', "$work/$signature", "$work/$checksums")
    $said = $answer.Words -join "`n"
    $key = ''
    if ($said -match '\] VALIDSIG ([0-9A-F]+)') { $key = $Matches[1] }
    if ($said -notmatch '\] (BADSIG|EXPSIG|EXPKEYSIG|REVKEYSIG) ') {
        if ($said -match '\] GOODSIG ') {
            if ($said -match '\] TRUST_(FULLY|ULTIMATE)') {
                Write-Host "${checksums}: gpg confirms the signature by the key $key."
            } else {
                Write-Host "${checksums}: the gpg signature is right, but nothing vouches for its key $key. Compare it with one from a source that you trust."
            }
            return
        }
        if ($said -match '\] NO_PUBKEY ([0-9A-F]+)') {
            Write-Host "${checksums}: its gpg signature was NOT checked, the key $($Matches[1]) is not in your keyring."
            return
        }
    }
    $answer.Words | ForEach-Object { Write-Host $_ }
    Deny "gpg doesn't confirm the signature of $checksums, so nothing was installed."
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

    $checked = $false
    if ((Test-Program 'cosign') -and (Get-File $release $bundle)) {
        Assert-Cosign (Get-Identity $repository $version)
        $checked = $true
    }
    if ((Test-Program 'gpg') -and (Get-File $release $signature)) {
        Assert-GPG
        $checked = $true
    }
    if (-not $checked) { Write-Host "${checksums}: no signature was checked; that takes cosign or gpg, and one that's published." }

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

function New-Binary([string] $version) {
    Write-Host "Building helm-parallel-hooks $version with Go; this takes a minute or two."
    $env:CGO_ENABLED = '0'
    $env:GOWORK = 'off'
    $answer = Invoke-Program 'go' @('build', '-trimpath', '-buildvcs=false', '-ldflags', "-s -w -X main.version=$version", '-o', "$work/built.exe", '.')
    $answer.Words | ForEach-Object { Write-Host $_ }
    if ($answer.Code -ne 0) { Deny 'the build failed, see above.' }
    return "$work\built.exe"
}

function Install-Binary {
    if ($PSVersionTable.PSVersion.Major -ge 6 -and -not $IsWindows) { throw 'this is for Windows. Run install-binary.sh instead.' }
    if (-not (Test-Path 'plugin.yaml')) { throw "$(Get-Location) is not the plugin's folder, there's no plugin.yaml." }
    $version = ''
    foreach ($line in Get-Content 'plugin.yaml') {
        if ($line -match '^version: *"?([0-9A-Za-z.+-]+)"? *$') { $version = $Matches[1] }
    }
    if (-not $version) { throw "plugin.yaml doesn't say the version." }
    $platform = Get-Platform
    $source = Test-Path 'go.mod'

    # An archive that was installed as a plugin brings the binary and no source.
    if (-not $source -and (Test-Path -LiteralPath $binary -PathType Leaf)) {
        if (-not (Test-Binary $binary $platform)) { throw "the binary in this archive is not for $platform. Install the archive that is." }
        Write-Host "Installed $(Join-Path (Get-Location) $binary)."
        return
    }

    New-Item -ItemType Directory -Force -Path $work | Out-Null
    try {
        $new = Get-Release $version $platform (Get-Repository)
    } catch {
        if ($denied) { throw }
        $why = $_.Exception.Message
        if ($archive) { throw "the archive can't be used: $why. $checksums of the same release must be beside it." }
        if (-not $source) { throw "no binary: $why, and there's no source here to build one from." }
        if (-not (Test-Program 'go')) {
            throw "no binary of release $version can be had: $why. No Go toolchain was found to build one with either. Mend that, or install Go from https://go.dev/dl/, and run this script again."
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

$work = "bin\.new.$PID"
$timeout = 30
if ($env:HELM_PARALLEL_HOOKS_TIMEOUT) { $timeout = [int]$env:HELM_PARALLEL_HOOKS_TIMEOUT }
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
    $code = 1
} finally {
    Remove-Item -LiteralPath $work -Recurse -Force -ErrorAction SilentlyContinue
    Pop-Location
}
exit $code
