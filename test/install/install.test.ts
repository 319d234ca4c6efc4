/** `medulla install` and `uninstall` of the packed package, into folders that stand for a robot's root. */
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openRecoveryKey } from '../../deploy/shared/recoverykey.ts'
import { serviceUnit } from '../../runtime/install/units.ts'
import { SCALE } from '../e2e/eventually.ts'
import { makeOperator } from '../e2e/robot.ts'
import { ROOT } from '../project/tree.ts'

const KILL = fileURLToPath(new URL('children/kill.mjs', import.meta.url))
const PACKAGE = 'usr/local/lib/node_modules/medulla'
const CLI = `${PACKAGE}/dist/deploy/laptop/cli/main.js`
const MAIN = `${PACKAGE}/dist/runtime/main.js`
const CONFIG = '# For more options see config.txt(5)\ndtparam=audio=on\n[pi5]\ndtparam=i2c_arm=on\n[all]\n'
const CMDLINE = 'console=serial0,115200 console=tty1 root=PARTUUID=deadbeef-02 rootwait\n'
const BOARD = {
  model: 'pi4',
  handles: {
    led: { kind: 'output', line: 'GPIO17' },
    imu: { kind: 'i2c', bus: 1, address: '0x68' },
    fan: { kind: 'pwm', line: 'GPIO18', frequencyHz: 1000 },
  },
}
const SLOW = { tags: ['slow'] }
const NOBODY = 65534
const isRoot = process.getuid?.() === 0

const folder = mkdtempSync(join(tmpdir(), 'medulla-install-'))
chmodSync(folder, 0o755)
afterAll(() => rmSync(folder, { recursive: true, force: true }))

beforeAll(() => {
  const pack = ['pack', '--ignore-scripts', '--pack-destination', folder]
  const { stderr } = spawnSync('npm', pack, { cwd: ROOT, encoding: 'utf8' })
  const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz'))
  if (tarball === undefined) throw new Error(stderr)
  const at = join(folder, 'package', PACKAGE)
  mkdirSync(at, { recursive: true })
  spawnSync('tar', ['-xzf', join(folder, tarball), '-C', at, '--strip-components=1'])
  // the command line needs one package; others are optional
  symlinkSync(join(ROOT, 'node_modules'), join(at, 'node_modules'))
}, 120_000)

/** A robot's root with the package in it, and a Pi's firmware. */
function robotRoot({ pi = true } = {}): string {
  const root = mkdtempSync(join(folder, 'root-'))
  chmodSync(root, 0o755)
  // links to the same files: a copy for each root would take most of the time
  spawnSync('cp', ['-a', '--link', `${join(folder, 'package')}/.`, root])
  mkdirSync(join(root, 'usr/bin'), { recursive: true })
  writeFileSync(join(root, 'usr/bin/node'), '')
  if (pi) {
    mkdirSync(join(root, 'boot/firmware'), { recursive: true })
    writeFileSync(join(root, 'boot/firmware/config.txt'), CONFIG)
    writeFileSync(join(root, 'boot/firmware/cmdline.txt'), CMDLINE)
  }
  return root
}

interface Ran {
  status: number | null
  stdout: string
  stderr: string
}

function medulla(root: string, args: string[], { uid, ...env }: { uid?: number; [name: string]: unknown } = {}): Ran {
  const user = uid === undefined ? {} : { uid, gid: uid }
  const run = spawnSync(process.execPath, [join(root, CLI), ...args], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH, HOME: folder, NO_COLOR: '1', ...(env as Record<string, string>) },
    ...user,
  })
  return { status: run.status, stdout: run.stdout, stderr: run.stderr }
}

const install = (root: string, ...args: string[]): Ran => medulla(root, ['install', '--root', root, ...args])

function boardFile(board: unknown = BOARD): string {
  const file = join(mkdtempSync(join(folder, 'board-')), 'board.json')
  writeFileSync(file, typeof board === 'string' ? board : JSON.stringify(board))
  chmodSync(dirname(file), 0o755)
  return file
}

/** Every file and link below the root but the package: its path, mode, and content or target. */
function listing(root: string, below = ''): Record<string, string> {
  const found: Record<string, string> = {}
  for (const entry of readdirSync(join(root, below), { withFileTypes: true })) {
    const path = `${below}/${entry.name}`
    if (path === '/usr') continue
    if (entry.isDirectory()) Object.assign(found, listing(root, path))
    else if (entry.isSymbolicLink()) found[path] = readlinkSync(join(root, path))
    else
      found[path] =
        `${(lstatSync(join(root, path)).mode & 0o777).toString(8)} ${readFileSync(join(root, path), 'utf8')}`
  }
  return found
}

test(
  'an installation into a root writes the service for the paths of that root, its link, board, groups and rules',
  SLOW,
  () => {
    const root = robotRoot()
    const { status, stdout, stderr } = install(root, '--board', boardFile(), '--yes')
    expect(status, stderr).toBe(0)
    expect(stdout).toContain('made     /etc/systemd/system/medulla.service')
    expect(stdout).toContain(`nothing was started: ${root} is not the system that runs`)
    expect(stderr).toContain('sudo reboot, so that the changes of the boot files take effect')
    const files = listing(root)
    expect(Object.keys(files).sort()).toEqual([
      '/boot/firmware/cmdline.txt',
      '/boot/firmware/config.txt',
      '/etc/medulla/installed.json',
      '/etc/modules-load.d/medulla.conf',
      '/etc/systemd/system.conf.d/60-medulla.conf',
      '/etc/systemd/system/medulla-discovery.socket',
      '/etc/systemd/system/medulla.service',
      '/etc/systemd/system/medulla.socket',
      '/etc/systemd/system/multi-user.target.wants/medulla.service',
      '/etc/systemd/system/sockets.target.wants/medulla.socket',
      '/etc/sysusers.d/medulla.conf',
      '/etc/udev/rules.d/60-medulla.rules',
      '/var/lib/medulla/board.json',
    ])
    expect(files['/etc/systemd/system/medulla.service']).toMatch(
      /^ExecStart=\/usr\/bin\/node \/usr\/local\/lib\/node_modules\/medulla\/dist\/runtime\/main\.js --home \/var\/lib\/medulla --host 0\.0\.0\.0$/m,
    )
    expect(files['/etc/systemd/system/multi-user.target.wants/medulla.service']).toBe(
      '/etc/systemd/system/medulla.service',
    )
    expect(files['/boot/firmware/config.txt']).toContain(
      `${CONFIG}# medulla install: begin\n[all]\ndtparam=i2c_arm=on\ndtoverlay=pwm-2chan\ndtparam=audio=off\n# medulla install: end\n`,
    )
    expect(files['/boot/firmware/cmdline.txt']).toContain('rootwait cgroup_enable=memory\n')
    expect(files['/etc/systemd/system.conf.d/60-medulla.conf']).toContain('RuntimeWatchdogSec=15s')
    expect(files['/var/lib/medulla/board.json']).toBe(`644 ${JSON.stringify(BOARD)}`)
    expect((lstatSync(join(root, 'var/lib/medulla')).mode & 0o777).toString(8)).toBe('700')
  },
)

test('a second installation changes nothing and says so; uninstall takes back everything but the home', SLOW, () => {
  const root = robotRoot()
  const before = listing(root)
  install(root, '--board', boardFile(), '--yes')
  const after = listing(root)
  const again = install(root)
  expect(again).toMatchObject({ status: 0, stdout: expect.stringContaining('nothing to change') })
  expect(listing(root)).toEqual(after)
  const uninstall = (...args: string[]) => medulla(root, ['uninstall', '--root', root, ...args])
  expect(uninstall('--yes')).toMatchObject({ status: 0, stderr: expect.stringContaining('/var/lib/medulla stays') })
  expect(listing(root)).toEqual({ ...before, '/var/lib/medulla/board.json': after['/var/lib/medulla/board.json'] })
  expect(uninstall()).toMatchObject({ status: 0, stdout: expect.stringContaining('nothing to change') })
  expect(uninstall('--purge')).toMatchObject({ status: 2, stderr: expect.stringContaining('was not confirmed') })
  expect(uninstall('--purge', '--yes').status).toBe(0)
  expect(listing(root)).toEqual(before)
  expect(existsSync(join(root, 'var/lib/medulla'))).toBe(false)
})

test(
  'without a person to agree the boot files stay as they are; the rest is installed, and what is left is said',
  SLOW,
  () => {
    const root = robotRoot()
    const { status, stdout, stderr } = install(root, '--board', boardFile())
    expect(status).toBe(0)
    expect(stdout).toContain('  + dtparam=i2c_arm=on')
    expect(stdout).toContain(`  - ${CMDLINE.trim()}\n  + ${CMDLINE.trim()} cgroup_enable=memory`)
    expect(stdout).toContain('not yet  /boot/firmware/config.txt')
    expect(stderr).toContain('sudo medulla install shows what is left to write, and asks')
    expect(readFileSync(join(root, 'boot/firmware/config.txt'), 'utf8')).toBe(CONFIG)
    expect(readFileSync(join(root, 'boot/firmware/cmdline.txt'), 'utf8')).toBe(CMDLINE)
    expect(existsSync(join(root, 'etc/systemd/system/medulla.service'))).toBe(true)
  },
)

test('called by a package it neither asks nor touches the boot files, with --yes neither', SLOW, () => {
  const root = robotRoot()
  const { status, stdout } = install(root, '--board', boardFile(), '--from-package', '--yes')
  expect(status).toBe(0)
  expect(stdout).not.toContain('/boot/')
  expect(readFileSync(join(root, 'boot/firmware/config.txt'), 'utf8')).toBe(CONFIG)
  expect(existsSync(join(root, 'etc/systemd/system.conf.d'))).toBe(false)
})

test(
  'an owner is let in by card, by key file and by the key itself, before the robot has an identity',
  SLOW,
  async () => {
    const { cardFile, keyFile, signer } = await makeOperator(mkdtempSync(join(folder, 'ann-')), 'ann')
    const key = readFileSync(`${keyFile}.pub`, 'utf8').trim()
    const root = robotRoot({ pi: false })
    const first = install(root, '--operator', cardFile)
    expect(first.stdout).toContain(`${signer.fingerprint} becomes an owner of this robot`)
    expect(install(root, '--operator', `${keyFile}.pub`).stdout).toContain('nothing to change')
    expect(install(root, '--operator', key).stdout).toContain('nothing to change')
    expect(readFileSync(join(root, 'var/lib/medulla/operators/allowed_signers'), 'utf8')).toContain(signer.publicKey)
    expect(readFileSync(join(root, 'var/lib/medulla/operators/roles.json'), 'utf8')).toContain('"owner"')
    expect(existsSync(join(root, 'var/lib/medulla/identity'))).toBe(false)
    const bad = install(robotRoot({ pi: false }), '--operator', boardFile('ssh-rsa AAAA ann'))
    expect([bad.status, bad.stderr]).toEqual([3, expect.stringContaining('medulla: error:')])
  },
)

test('HANDOVER 19.3: the first owner gets a recovery key, which is shown once and is in no file', SLOW, async () => {
  const [ann, bob] = await Promise.all(
    ['ann', 'bob'].map((name) => makeOperator(mkdtempSync(join(folder, `${name}-`)), name)),
  )
  const root = robotRoot({ pi: false })
  const { status, stdout, stderr } = install(root, '--operator', ann?.cardFile ?? '')
  expect(status, stderr).toBe(0)
  const [, text = ''] = /^ {4}((?:[0-9A-Z]{4}-){6}[0-9A-Z]{4})$/m.exec(stdout) ?? []
  const key = await openRecoveryKey(text)
  expect(stdout).toContain('The recovery key, which is shown only now. Write it on paper:')
  const written = Object.values(listing(root)).join('\n').toUpperCase()
  for (const part of [text.slice(0, 9), text.replaceAll('-', '').slice(0, 8), text.slice(-9)])
    expect(written).not.toContain(part)
  expect(readFileSync(join(root, 'var/lib/medulla/operators/list.json'), 'utf8')).toContain(key.signer.publicKey)
  // the same owner again, and a second one: no other key is made
  for (const { cardFile } of [ann, bob] as { cardFile: string }[]) {
    expect(install(root, '--operator', cardFile).stdout).not.toContain('recovery key')
  }
  // with --json, the text is in an event of its own
  const json = install(robotRoot({ pi: false }), '--operator', bob?.cardFile ?? '', '--json').stdout
  expect(json).toMatch(/^\{"event":"recovery-key","text":"[0-9A-Z-]{34}"\}$/m)
})

test('a wrong board file is refused with its line, before anything is written', SLOW, () => {
  const root = robotRoot()
  const before = listing(root)
  const wrong = install(root, '--board', boardFile('{\n  "model": "pi4",\n  "handles": { "led": { "kind": "outptu", "line": 17 } }\n}\n'), '--yes') // biome-ignore format: one call
  expect(wrong.status).toBe(3)
  expect(wrong.stderr).toMatch(/board\.json:3:\d+: .*; nothing was installed/)
  expect(wrong.stderr).toContain('medulla: hint:')
  const absent = install(root, '--board', join(folder, 'absent.json'))
  expect(absent).toMatchObject({ status: 3, stderr: expect.stringContaining('ENOENT; nothing was installed') })
  expect(listing(root)).toEqual(before)
  // the one that is there, too
  mkdirSync(join(root, 'var/lib/medulla'), { recursive: true })
  writeFileSync(join(root, 'var/lib/medulla/board.json'), '{')
  expect(install(root)).toMatchObject({ status: 3, stderr: expect.stringContaining('/var/lib/medulla/board.json:1:') })
})

test.runIf(isRoot)(
  'a config.txt that cannot be written is refused with path, cause and next command, before anything is written',
  SLOW,
  () => {
    const root = robotRoot()
    for (const path of ['', 'boot', 'etc', 'var', 'usr']) {
      mkdirSync(join(root, path), { recursive: true })
      chownSync(join(root, path), NOBODY, NOBODY)
    }
    const board = boardFile()
    const before = listing(root)
    // boot/firmware belongs to root, and the installation into a root needs none
    const args = ['install', '--root', root, '--board', board]
    const refused = medulla(root, [...args, '--yes'], { uid: NOBODY })
    expect(refused.status, refused.stderr).toBe(3)
    expect(refused.stderr).toMatch(/error: \/boot\/firmware\/(?:config|cmdline)\.txt cannot be written: EACCES/)
    expect(refused.stderr).toContain('medulla: hint: ls -ld /boot/firmware')
    expect(listing(root)).toEqual(before)
    // the other files need no such right
    expect(medulla(root, args, { uid: NOBODY }).status).toBe(0)
  },
)

test.runIf(isRoot && canMount())(
  'a boot partition that is mounted read-only is refused with the command that mounts it',
  SLOW,
  () => {
    const root = robotRoot()
    const boot = join(root, 'boot/firmware')
    const script = `mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"`
    const cli = [process.execPath, join(root, CLI), 'install', '--root', root, '--board', boardFile(), '--yes']
    const { status, stderr } = spawnSync('unshare', ['--mount', 'sh', '-c', script, 'sh', boot, ...cli], {
      encoding: 'utf8',
    })
    expect(status, stderr).toBe(3)
    expect(stderr).toMatch(/error: \/boot\/firmware\/(?:config|cmdline)\.txt cannot be written: EROFS/)
    expect(stderr).toContain('medulla: hint: sudo mount -o remount,rw /boot/firmware')
    expect(existsSync(join(root, 'etc/systemd'))).toBe(false)
  },
)

function canMount(): boolean {
  return spawnSync('unshare', ['--mount', 'true']).status === 0
}

test('an installation that is killed at any write is completed by the next one, without a trace', {
  ...SLOW,
  timeout: 600_000 * SCALE,
}, () => {
  const board = boardFile()
  const untouched = listing(robotRoot())
  const whole = robotRoot()
  // the robot side alone: the command line would only take longer
  const runtime = (root: string, what: string[], env: NodeJS.ProcessEnv = {}) =>
    spawnSync(process.execPath, [join(root, MAIN), 'install', ...what, '--root', root, '--board', board], {
      encoding: 'utf8',
      env: { ...process.env, ...env },
    })
  const { agreement } = JSON.parse(runtime(whole, ['plan']).stdout) as { agreement: string }
  const apply = ['apply', '--agreed', agreement]
  expect(runtime(whole, apply).status).toBe(0)
  const expected = listing(whole)
  let killed = 0
  for (let at = 1; at < 30; at++) {
    const root = robotRoot()
    const env = { MEDULLA_TEST_KILL_AT: String(at), NODE_OPTIONS: `--import=${KILL}` }
    const { signal } = runtime(root, apply, env)
    // each file is the whole old one or the whole new one; nothing starts the robot before its unit is there
    const half = listing(root)
    for (const [path, content] of Object.entries(half)) {
      if (!path.includes('.medulla-new')) expect([expected[path], untouched[path]]).toContain(content)
    }
    if (half['/etc/systemd/system/multi-user.target.wants/medulla.service'] !== undefined) {
      expect(half['/etc/systemd/system/medulla.service']).toBe(expected['/etc/systemd/system/medulla.service'])
    }
    // as a person does it: the plan is another one now
    const { agreement: rest } = JSON.parse(runtime(root, ['plan']).stdout) as { agreement: string }
    expect(runtime(root, ['apply', '--agreed', rest]).status).toBe(0)
    expect(listing(root)).toEqual(expected)
    rmSync(root, { recursive: true })
    if (signal === null) break
    killed++
  }
  expect(killed).toBe(13)
})

test('a link in the root that leads out of it is refused', SLOW, () => {
  const root = robotRoot()
  symlinkSync('/etc', join(root, 'etc'))
  const { status, stderr } = install(root)
  expect(status).toBe(3)
  expect(stderr).toContain(`is a link that leads out of ${root}, to /etc`)
  const absent = medulla(root, ['install', '--root', join(root, 'absent')])
  expect(absent).toMatchObject({ status: 3, stderr: expect.stringContaining('there is no folder') })
})

test.skipIf(existsSync('/run/systemd/system'))(
  'on a computer that systemd has not started it refuses, and says what runs a robot there',
  SLOW,
  () => {
    const root = robotRoot()
    for (const args of [
      ['install', '--yes'],
      ['install', '--no-start'],
      ['doctor', '--fix', 'user'],
    ]) {
      const { status, stderr } = medulla(root, args)
      expect(status).toBe(3)
      expect(stderr).toContain('systemd is not what started this computer')
      expect(stderr).toContain(
        'medulla: hint: sudo medulla runtime run --home /var/lib/medulla runs a robot without a service',
      )
    }
  },
)

test.runIf(isRoot && canMount())('whoever is not root is refused with the command to type', SLOW, () => {
  const root = robotRoot()
  const script =
    'mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"'
  for (const command of ['install', 'uninstall']) {
    const cli = [process.execPath, join(root, CLI), command]
    const { status, stderr } = spawnSync('unshare', ['--mount', 'sh', '-c', script, 'sh', ...cli], { encoding: 'utf8' })
    expect(status, stderr).toBe(3)
    expect(stderr).toContain(`medulla ${command} writes below /etc and /var; nothing was changed`)
    expect(stderr).toContain(`medulla: hint: sudo medulla ${command}`)
  }
})

test('the unit of a board with the network has it, and paths with spaces and % are quoted', () => {
  const template = readFileSync(join(ROOT, 'runtime/medulla.service'), 'utf8')
  const unit = serviceUnit(template, { node: '/opt/my node/bin/node', main: '/srv/50%/main.js' }, true)
  expect(unit).toContain('ExecStart="/opt/my node/bin/node" /srv/50%%/main.js --home')
  for (const line of ['PrivateNetwork', 'IPAddressDeny']) expect(unit).not.toContain(`\n${line}=`)
  expect(unit).toContain('\nRestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\n')
  expect(unit).toContain('\nNoNewPrivileges=yes')
})
