/** Fetches packages of a Debian release other than the host's: downloaded and unpacked, never installed. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { BuildError } from './error.mjs'
import { output, run } from './exec.mjs'

/** @returns {string} the release of this computer, one of `supported`; @throws {BuildError} for any other system */
export function debianRelease(supported) {
  const release = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : ''
  const name = /^VERSION_CODENAME=(.*)$/m.exec(release)?.[1] ?? ''
  if (/^ID=debian$/m.test(release) && supported.includes(name)) return name
  throw new BuildError(
    `this is made on Debian ${supported.join(' or ')} (amd64), and this computer has ${name || 'another system'}`,
    'run it in a container or a virtual machine with that system',
  )
}

/** @throws {BuildError} when packages of the host are missing, with the command that installs them */
export function requirePackages(names) {
  const missing = names.filter((name) => {
    try {
      return !output('dpkg-query', ['-s', name]).includes('Status: install ok installed')
    } catch {
      return true
    }
  })
  if (missing.length > 0) {
    throw new BuildError(
      `packages of Debian are missing: ${missing.join(' ')}`,
      `apt-get install --no-install-recommends ${missing.join(' ')}`,
    )
  }
}

/** An apt with separate state in `folder`, for one suite and architecture on the mirror of the host's `release`. */
export class PrivateApt {
  #options
  #suite

  constructor(suite, folder, release, architecture = 'amd64') {
    for (const name of ['lists/partial', 'cache/archives/partial']) mkdirSync(join(folder, name), { recursive: true })
    const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg'
    writeFileSync(
      join(folder, 'sources.list'),
      `deb [arch=${architecture} signed-by=${keyring}] ${mirror(release)} ${suite} main\n`,
    )
    writeFileSync(join(folder, 'status'), '')
    this.#suite = suite
    this.#options = [
      `Dir::Etc::sourcelist=${join(folder, 'sources.list')}`,
      'Dir::Etc::sourceparts=/nonexistent',
      `Dir::State::lists=${join(folder, 'lists')}`,
      `Dir::State::status=${join(folder, 'status')}`,
      `Dir::Cache=${join(folder, 'cache')}`,
      'APT::Sandbox::User=root',
      `APT::Architecture=${architecture}`,
      `APT::Architectures=${architecture}`,
    ].flatMap((option) => ['-o', option])
    run('apt-get', [...this.#options, '-qq', 'update'])
  }

  /** The package that a meta-package stands for: `linux-image-6.12.1-amd64` for `linux-image-amd64`. */
  dependency(name) {
    const text = output('apt-cache', [...this.#options, 'show', '--no-all-versions', name])
    const depends = /^Depends: (\S+)/m.exec(text)?.[1]
    if (depends === undefined)
      throw new BuildError(`${this.#suite} has no package ${name}`, 'look at the mirror apt uses')
    return depends
  }

  /** Downloads packages into `folder`. @returns {(name: string) => string} the file of each */
  download(names, folder) {
    mkdirSync(folder, { recursive: true })
    run('apt-get', [...this.#options, '-qq', 'download', ...names], { cwd: folder })
    return (name) => join(folder, readdirSync(folder).find((file) => file.startsWith(`${name}_`)) ?? name)
  }
}

/** The mirror of the host's apt, which has every suite of Debian. */
export function mirror(release) {
  const format = '$(SITE) $(RELEASE) $(COMPONENT)'
  const targets = output('apt-get', ['indextargets', '--format', format, 'Created-By: Packages']).split('\n')
  const site = targets.find((line) => line.endsWith(` ${release} main`))?.split(' ')[0]
  if (site === undefined) {
    throw new BuildError(`apt knows no mirror of ${release}`, 'apt-get update, and look at /etc/apt/sources.list.d')
  }
  return site
}
