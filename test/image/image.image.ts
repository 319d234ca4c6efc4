/** What is on the image, without starting it: partitions, files, units, owners and modes, no secrets, size. */
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { image, isGiven, makeImage } from './given.ts'
import { Card } from './machine.ts'

const output = (file: string, ...args: string[]) => execFileSync(file, args, { encoding: 'utf8', maxBuffer: 64 << 20 })

interface Partition {
  start: number
  size: number
  type: string
  bootable?: boolean
}

const folder = mkdtempSync(join(tmpdir(), 'medulla-static-'))
let compressed: string
let card: Card
let partitions: Partition[]
const root = (...path: string[]) => join(folder, 'root', ...path)
const data = (...path: string[]) => join(folder, 'data', ...path)

beforeAll(() => {
  compressed = image()
  card = new Card(compressed, folder)
  const table = JSON.parse(output('sfdisk', '--json', card.disk)) as { partitiontable: { partitions: Partition[] } }
  partitions = table.partitiontable.partitions
  unpack(1, root())
  unpack(2, data())
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** With owners and modes, as debugfs keeps them for root. */
function unpack(index: number, to: string): void {
  const { start = 0, size = 0 } = partitions[index] ?? {}
  const file = join(folder, `partition-${index}`)
  output(
    'dd',
    `if=${card.disk}`,
    `of=${file}`,
    'bs=512',
    `skip=${start}`,
    `count=${size}`,
    'conv=sparse',
    'status=none',
  )
  output('e2fsck', '-f', '-n', file)
  mkdirSync(to)
  output('debugfs', '-R', `rdump / ${to}`, file)
}

interface Entry {
  path: string
  mode: number
  uid: number
}

/** Every entry with its owner and whole mode: rdump leaves out the set-user-ID and sticky bits. */
function entries(index: number, folders: string[]): Entry[] {
  const commands = join(folder, 'commands')
  writeFileSync(commands, folders.map((path) => `ls -p "/${path}"\n`).join(''))
  let parent = ''
  return output('debugfs', '-f', commands, join(folder, `partition-${index}`))
    .split('\n')
    .flatMap((line) => {
      const [, listed] = /^debugfs: ls -p "\/(.*)"$/.exec(line) ?? []
      if (listed !== undefined) parent = listed
      const [, mode, uid, name] = /^\/\d+\/(\d{6})\/(\d+)\/\d+\/([^/]+)\//.exec(line) ?? []
      if (name === undefined || name === '.' || name === '..') return []
      return [{ path: join(parent, name), mode: Number.parseInt(mode ?? '', 8), uid: Number(uid) }]
    })
}

/** Without following links, which lead to this computer's own files. */
function paths(from: string): string[] {
  return output('find', from, '-mindepth', '1', '-printf', '%P\n').trimEnd().split('\n')
}

test('it is at most 400 MB, and the sums beside it are right', () => {
  expect(statSync(compressed).size).toBeLessThanOrEqual(400e6)
  execFileSync('sha256sum', ['--check', '--quiet', 'SHA256SUMS'], { cwd: dirname(compressed) })
  const bill = JSON.parse(readFileSync(compressed.replace(/\.img\.zst$/, '.cdx.json'), 'utf8')) as {
    bomFormat: string
    components: { purl: string }[]
  }
  expect(bill.bomFormat).toBe('CycloneDX')
  const purls = bill.components.map(({ purl }) => purl)
  expect(new Set(purls).size).toBe(purls.length)
  for (const start of ['pkg:deb/debian/nodejs@20.', 'pkg:deb/debian/medulla@', 'pkg:npm/koffi@', 'pkg:npm/i2c-bus@']) {
    expect(
      purls.some((purl) => purl.startsWith(start)),
      start,
    ).toBe(true)
  }
  expect(readFileSync(compressed.replace(/\.img\.zst$/, '.packages'), 'utf8')).toMatch(/^linux-image-arm64 6\.12\./m)
})

test('three partitions: FAT for the firmware, the system, the data', () => {
  expect(partitions.map(({ type, bootable }) => [type, bootable ?? false])).toEqual([
    ['c', true],
    ['83', false],
    ['83', false],
  ])
})

test('the FAT partition has what the firmware of a Zero 2 W, 3 and 4 loads', () => {
  const names = card.list()
  for (const name of [
    'bootcode.bin',
    'start.elf',
    'start4.elf',
    'fixup.dat',
    'fixup4.dat',
    'config.txt',
    'cmdline.txt',
  ])
    expect(names).toContain(name)
  for (const name of [
    'bcm2837-rpi-zero-2-w.dtb',
    'bcm2837-rpi-3-b.dtb',
    'bcm2837-rpi-3-b-plus.dtb',
    'bcm2711-rpi-4-b.dtb',
  ])
    expect(names).toContain(name)
  const config = card.read('config.txt')
  const [, kernel] = /^kernel=(.*)$/m.exec(config) ?? []
  const [, initrd] = /^initramfs (\S+)/m.exec(config) ?? []
  expect(names).toContain(kernel)
  expect(names).toContain(initrd)
  expect(config).toMatch(/^arm_64bit=1$/m)
  const line = card.read('cmdline.txt')
  expect(line.trim().split('\n')).toHaveLength(1)
  expect(line).toContain('root=LABEL=medulla-root ro ')
})

test('the watchdog is armed in time for the chip, logs stay in memory, and the system is mounted read-only', () => {
  const watchdog = readFileSync(root('etc/systemd/system.conf.d/medulla.conf'), 'utf8')
  expect(Number(/^RuntimeWatchdogSec=(\d+)s$/m.exec(watchdog)?.[1])).toBeLessThanOrEqual(15)
  expect(readFileSync(root('etc/systemd/journald.conf.d/medulla.conf'), 'utf8')).toContain('Storage=volatile')
  expect(readFileSync(root('etc/fstab'), 'utf8')).toMatch(/^LABEL=medulla-root\s+\/\s+ext4\s+ro,/m)
})

test('the units of a robot start, and nothing that a read-only system cannot do', () => {
  const wanted = paths(root('etc/systemd/system')).map((path) => basename(path))
  for (const unit of ['medulla.service', 'medulla-card.service', 'ssh.service', 'systemd-networkd.service']) {
    expect(wanted).toContain(unit)
  }
  for (const unit of ['systemd-resolved.service', 'systemd-timesyncd.service']) expect(wanted).toContain(unit)
  for (const unit of ['apt-daily.timer', 'apt-daily-upgrade.timer']) {
    expect(readlinkSync(root('etc/systemd/system', unit))).toBe('/dev/null')
  }
  expect(wanted).not.toContain('systemd-networkd-wait-online.service')
})

test('there are no secrets: no host keys, no identity, no password, no machine id, no seeds', () => {
  const names = paths(root())
  expect(
    names.filter((path) => /(?:^|\/)(?:ssh_host_\w+_key|id_ed25519|random-seed|credential\.secret)$/.test(path)),
  ).toEqual([])
  expect(readFileSync(root('etc/machine-id'), 'utf8').trim()).toBe('')
  const shadow = readFileSync(root('etc/shadow'), 'utf8').trim().split('\n')
  const passwords = shadow.map((line) => line.split(':')[1])
  expect(passwords.filter((password) => password !== '*' && password !== '!' && password !== '!*')).toEqual([])
  expect(paths(data()).filter((path) => /(?:seed|secret|_key|identity)$/.test(path))).toEqual([])
  expect(readdirSync(data('medulla'))).toEqual([])
  expect(existsSync(root('var/lib/apt/lists/lock'))).toBe(false)
  for (const path of names.filter((name) => name.endsWith('authorized_keys'))) expect(path).toBe('')
})

test('nobody but root can write a file of the system, and the programs that run as root are known', () => {
  const folders = output('find', root(), '-type', 'd', '-printf', '%P\\n').trimEnd().split('\n')
  const all = entries(1, folders)
  expect(all.length).toBeGreaterThan(10_000)
  const isFile = ({ mode }: Entry) => (mode & 0o170000) === 0o100000
  const isLink = ({ mode }: Entry) => (mode & 0o170000) === 0o120000
  const odd = all.filter((each) => !isLink(each) && (each.mode & 0o1002) === 0o002)
  const setuid = all.filter((each) => isFile(each) && (each.mode & 0o4000) !== 0)
  expect(odd).toEqual([])
  expect(setuid.map(({ path, uid }) => `${basename(path)} ${uid}`).sort()).toEqual([
    'chfn 0',
    'chsh 0',
    'dbus-daemon-launch-helper 0',
    'gpasswd 0',
    'mount 0',
    'newgrp 0',
    'passwd 0',
    'ssh-keysign 0',
    'su 0',
    'sudo 0',
    'umount 0',
  ])
  expect(statSync(root('etc/sudoers.d/pi')).mode & 0o777).toBe(0o440)
  expect(statSync(data('medulla'))).toMatchObject({ uid: 0, gid: 0 })
  expect(statSync(data('medulla')).mode & 0o777).toBe(0o700)
})

test.skipIf(isGiven)('made again from the same root file system, it has the same bytes', () => {
  expect(readFileSync(makeImage(join(folder, 'again'))).equals(readFileSync(compressed))).toBe(true)
})
