/** The Debian package: what is in it, the same bytes twice, and installed in a Debian 13 root file system. */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, lstatSync, mkdtempSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { GROUPS, RULES } from '../../runtime/install/units.ts'
import { debian } from './chroot.ts'
import { makePackage } from './given.ts'

type Architecture = 'amd64' | 'arm64'

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string
}
const output = (file: string, ...args: string[]) => execFileSync(file, args, { encoding: 'utf8', maxBuffer: 64 << 20 })

let folder: string
const packages: Partial<Record<Architecture, string>> = {}
const packageOf = (architecture: Architecture) => packages[architecture] ?? ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'medulla-package-'))
  for (const architecture of ['amd64', 'arm64'] as const) {
    packages[architecture] = makePackage(architecture, folder)
  }
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const MACHINE = { amd64: 'x86-64', arm64: 'ARM aarch64' }

test.each(['amd64', 'arm64'] as const)('%s: files belong to root, and nobody else writes them', (architecture) => {
  const lines = output('dpkg-deb', '--contents', packageOf(architecture)).trimEnd().split('\n')
  const odd = lines.filter((line) => !/^(?:-rw-r--r--|-rwxr-xr-x|drwxr-xr-x|lrwxrwxrwx) root\/root /.test(line))
  expect(odd).toEqual([])
  const paths = lines.map((line) => line.split(/\s+/)[5]?.replace(/^\./, '') ?? '')
  for (const path of [
    '/usr/bin/medulla',
    '/usr/lib/medulla/dist/runtime/main.js',
    '/usr/lib/systemd/system/medulla.service',
    '/usr/lib/systemd/system/medulla.socket',
    '/usr/lib/udev/rules.d/60-medulla.rules',
    '/usr/share/doc/medulla/copyright',
  ]) {
    expect(paths).toContain(path)
  }
  // nothing that only compiles or tests
  expect(
    paths.filter((path) => /\/node_modules\/(?:typescript|vitest|nan|pigpio)\/|\.(?:cc|o|gyp)$/.test(path)),
  ).toEqual([])
})

test.each(['amd64', 'arm64'] as const)('%s: every addon and program is compiled for it', (architecture) => {
  const tree = join(folder, architecture)
  output('dpkg-deb', '--extract', packageOf(architecture), tree)
  // what `medulla install` writes, too
  expect(readFileSync(join(tree, 'usr/lib/udev/rules.d/60-medulla.rules'), 'utf8')).toBe(RULES)
  expect(readFileSync(join(tree, 'usr/lib/sysusers.d/medulla.conf'), 'utf8')).toBe(GROUPS)
  const found = output('find', tree, '-name', '*.node', '-o', '-path', '*/@esbuild/*/bin/esbuild').trim().split('\n')
  expect(found.map((path) => path.replace(/^.*\//, '')).sort()).toEqual([
    'epoll.node',
    'esbuild',
    'i2c.node',
    'koffi.node',
  ])
  // the machine's number in the header of an ELF file
  const machines = found.map((path) => readFileSync(path).readUInt16LE(18))
  expect(new Set(machines), MACHINE[architecture]).toEqual(new Set([architecture === 'amd64' ? 0x3e : 0xb7]))
})

test('the same input gives the same bytes', () => {
  const again = makePackage('arm64', join(folder, 'again'))
  expect(readFileSync(again).equals(readFileSync(packageOf('arm64')))).toBe(true)
})

/** Tags of lintian that stay, each with its reason. */
const ACCEPTED = {
  'bogus-mail-host': 'the project has no address',
  'bogus-mail-host-in-debian-changelog': 'the project has no address',
  'no-manual-page': 'medulla --help has it all',
  'script-not-executable': 'TypeScript copies the first line of a program into its declarations',
  'statically-linked-binary': 'esbuild is made with Go',
}

test.skipIf(spawnSync('lintian', ['--version']).status !== 0)(
  'lintian finds nothing that is not explained here',
  () => {
    const { stdout } = spawnSync('lintian', ['--allow-root', packageOf('amd64')], { encoding: 'utf8' })
    const tags = [...stdout.matchAll(/^[EW]: medulla: (\S+)/gm)].map(([, tag]) => tag)
    expect(tags.filter((tag) => !Object.hasOwn(ACCEPTED, tag ?? ''))).toEqual([])
  },
)

test('it installs on Debian 13, where the command line, the doctor and the addons work', () => {
  const root = debian(['nodejs'])
  const installed = root.run('dpkg', '--install', root.copy(packageOf('amd64')))
  expect(installed, installed.stderr).toMatchObject({ status: 0 })
  expect(root.run('medulla', '--version').stdout).toBe(`${version}\n`)
  // a container without hardware: there are findings, and each is a finding
  const doctor = root.run('medulla', 'doctor', '--json')
  const findings = doctor.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { name?: string; level?: string })
  expect(findings.length).toBeGreaterThan(5)
  const load = "for (const name of ['koffi', 'i2c-bus', 'epoll', 'onoff', 'esbuild']) require(name)"
  const loaded = root.run('sh', '-c', `cd /usr/lib/medulla && node -e "${load}"`)
  expect(loaded, loaded.stderr).toMatchObject({ status: 0 })
  const link = join(root.folder, 'etc/systemd/system/multi-user.target.wants/medulla.service')
  expect(readlinkSync(link)).toMatch(/\/usr\/lib\/systemd\/system\/medulla\.service$/)

  const state = join(root.folder, 'var/lib/medulla/identity')
  root.run('install', '-D', '/dev/null', '/var/lib/medulla/identity')
  expect(root.run('dpkg', '--remove', 'medulla')).toMatchObject({ status: 0 })
  expect(existsSync(state)).toBe(true)
  expect(existsSync(join(root.folder, 'usr/lib/medulla'))).toBe(false)
  expect(root.run('dpkg', '--purge', 'medulla')).toMatchObject({ status: 0 })
  expect(existsSync(state)).toBe(false)
  expect(lstatSync(link, { throwIfNoEntry: false })).toBe(undefined)
})

test('on the wrong architecture, or with no Node.js, dpkg refuses it and says why', () => {
  const root = debian(['init-system-helpers'])
  const wrong = root.run('dpkg', '--install', root.copy(packageOf('arm64')))
  expect(wrong.status).not.toBe(0)
  expect(wrong.stderr).toContain('package architecture (arm64) does not match system (amd64)')
  const alone = root.run('dpkg', '--install', root.copy(packageOf('amd64')))
  expect(alone.status).not.toBe(0)
  expect(alone.stderr).toContain('medulla depends on nodejs (>= 20.19)')
})
