import { spawnSync } from 'node:child_process'
import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { signFiles } from '../../../deploy/laptop/build.ts'
import { FIRST_START } from '../../../deploy/shared/bundle/release.ts'
import { DEFAULT_HOSTNAME } from '../../../deploy/shared/cardsettings.ts'
import { verifyCertificate } from '../../../deploy/shared/cert.ts'
import { generateKey } from '../../../deploy/shared/keys.ts'
import { applySettings } from '../../../runtime/card/apply.ts'
import { build, nextCounter } from '../../e2e/programs.ts'
import { newSigner } from '../../fixtures/bundles.ts'

const OTHER_ROBOT = `SHA256:${'B'.repeat(42)}A`

function places() {
  const folder = mkdtempSync(join(tmpdir(), 'medulla-card-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const [boot, data, home] = ['boot', 'data', 'home'].map((name) => join(folder, name)) as [string, string, string]
  for (const path of [boot, data]) mkdirSync(path)
  return {
    boot,
    data,
    home,
    toml: (text: string) => writeFileSync(join(boot, 'medulla.toml'), text),
    read: (...path: string[]) => readFileSync(join(folder, ...path), 'utf8'),
    mode: (...path: string[]) => statSync(join(folder, ...path)).mode & 0o777,
  }
}

test('settings are written to the data partition; applied twice they are the same', async () => {
  const card = places()
  const { publicKey } = await generateKey(join(card.data, 'ada'), 'ada')
  card.toml(`[system]
hostname = "arm"
[ssh]
authorized_keys = ["${publicKey}"]
[wlan]
ssid = "IEEE"
password = "password"
country = "DE"
[robot]
operator = "${publicKey}"
board = "board.json"
`)
  const board = JSON.stringify({ model: 'pi4', handles: { led: { kind: 'output', line: 17 } } })
  writeFileSync(join(card.boot, 'board.json'), board)
  for (let time = 1; time <= 2; time++) {
    const { applied, report } = await applySettings(card)
    expect(report.join('\n')).toMatch(/is owner of this robot/)
    expect(applied).toBe(true)
  }
  expect(card.read('data/etc/hostname')).toBe('arm\n')
  expect(card.read('data/etc/authorized_keys')).toBe(`${publicKey}\n`)
  // the key that IEEE 802.11-2020, annex J.4.2, gives for this password and network
  const key = 'f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e'
  expect(card.read('data/etc/wpa_supplicant.conf')).toContain(`ssid=49454545\n\tpsk=${key}\n`)
  expect(card.mode('data/etc/wpa_supplicant.conf')).toBe(0o600)
  expect(card.read('home/board.json')).toBe(board)
  expect(card.read('boot/medulla-report.txt')).toMatch(/^applied: medulla\.toml\nthis robot is SHA256:/)
  expect(JSON.parse(card.read('boot/robot.json'))).toEqual(JSON.parse(card.read('home/robot.json')))
})

test('files are replaced whole, so that a full disk or a power cut leaves the old ones', async () => {
  const card = places()
  card.toml('[system]\nhostname = "arm"\n[wlan]\nssid = "one"\ncountry = "DE"\n')
  await applySettings(card)
  const names = ['hostname', 'authorized_keys', 'wpa_supplicant.conf']
  const old = names.map((name) => card.read('data/etc', name))
  for (const name of names) linkSync(join(card.data, 'etc', name), join(card.data, name))
  card.toml('[system]\nhostname = "leg"\n[wlan]\nssid = "two"\ncountry = "DE"\n')
  expect(await applySettings(card)).toMatchObject({ applied: true })
  expect(names.map((name) => card.read('data', name))).toEqual(old)
  expect(card.read('data/etc/hostname')).toBe('leg\n')
})

test('a mistake changes nothing, and is written beside the file', async () => {
  const card = places()
  card.toml('[system]\nhostname = "arm"\n[robot]\nboard = "bord.json"\n')
  expect(await applySettings(card)).toMatchObject({ applied: false })
  expect(card.read('boot/medulla-report.txt')).toMatch(
    /^nothing was applied:\nmedulla\.toml: there is no file bord\.json/,
  )
  expect(() => card.read('data/etc/hostname')).toThrow('ENOENT')
})

test('BUNDLE 19.1, 19.2: a first program for a robot or a slot, of a stranger or missing is a mistake; one that is named no more is not started', async () => {
  const card = places()
  const signer = newSigner()
  const { files, manifest } = await build('counter')
  const options = { signer, recipients: [FIRST_START], counter: nextCounter() }
  const sign = async (more: object) => (await signFiles(files, manifest, { ...options, ...more })).inner
  card.toml(`[robot]\noperator = "${signer.publicKey}"\nprogram = "program.tar"\n`)
  for (const [program, says] of [
    [null, 'there is no file program.tar beside it'],
    [await sign({ recipients: [OTHER_ROBOT] }), 'was made for a robot'],
    [await sign({ slot: 'other' }), 'is no program for slot main'],
    [await sign({ signer: newSigner() }), 'who is not an operator'],
  ] as const) {
    if (program !== null) writeFileSync(join(card.boot, 'program.tar'), program)
    const { applied, report } = await applySettings(card)
    expect(report.join('\n')).toContain(says)
    expect(report.join('\n')).toContain('remove the line program = ')
    expect(applied).toBe(false)
  }
  writeFileSync(join(card.boot, 'program.tar'), await sign({ slot: 'main' }))
  const waiting = join(card.home, 'first-program.tar')
  expect(await applySettings(card)).toMatchObject({ applied: true })
  expect(existsSync(waiting)).toBe(true)
  card.toml(`[robot]\noperator = "${signer.publicKey}"\n`)
  expect(await applySettings(card)).toMatchObject({ applied: true })
  expect(existsSync(waiting)).toBe(false)
})

test('a board file with a mistake is refused with its own words', async () => {
  const card = places()
  card.toml('[robot]\nboard = "board.json"\n')
  writeFileSync(
    join(card.boot, 'board.json'),
    '{ "model": "pi4", "handles": { "led": { "kind": "output", "line": 99 } } }',
  )
  const { applied, report } = await applySettings(card)
  expect(applied).toBe(false)
  expect(report.join('\n')).toContain('GPIO0 to GPIO53')
})

test('the name of a robot is its hostname: that of medulla.toml, else the present one, else that of the image', async () => {
  const card = places()
  const name = () => verifyCertificate(JSON.parse(card.read('boot/robot.json'))).name
  expect(readFileSync('pi-image/configure.sh', 'utf8')).toContain(`\necho ${DEFAULT_HOSTNAME} >"$root/etc/hostname"\n`)
  await applySettings(card)
  expect(name()).toBe(DEFAULT_HOSTNAME)
  for (const [toml, expected] of [
    ['', DEFAULT_HOSTNAME],
    ['[system]\nhostname = "arm"\n', 'arm'],
    ['', 'arm'],
  ] as const) {
    card.toml(toml)
    expect(await applySettings(card)).toMatchObject({ applied: true })
    expect(name()).toBe(expected)
  }
  expect(card.read('data/etc/hostname')).toBe('arm\n')
})

test('two cards become two robots, and a card keeps its identity; a card without medulla.toml says who it is', async () => {
  const [one, other] = [places(), places()]
  const said = async (card: typeof one) => (await applySettings(card)).report.join('\n')
  const first = await said(one)
  expect(first).toMatch(/^this robot is SHA256:\S{43}; there is no medulla\.toml on its card$/)
  expect(await said(one)).toBe(first)
  expect(one.read('boot/medulla-report.txt')).toBe(`${first}\n`)
  expect(await said(other)).not.toBe(first)
})

/** Mounts a small tmpfs, if root may do so here. */
function small(path: string): boolean {
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=256k,mode=755', 'tmpfs', path]).status !== 0) return false
  onTestFinished(() => void spawnSync('umount', [path]))
  return true
}

function fill(path: string): string {
  const filler = join(path, 'filler')
  const { bavail, bsize } = statfsSync(path)
  writeFileSync(filler, Buffer.alloc(bavail * bsize))
  return filler
}

const asRoot = process.getuid?.() === 0 ? test : test.skip

asRoot(
  'a full or read-only data partition is reported with what to do, and the next start applies the settings',
  async ({ skip }) => {
    const card = places()
    skip(!small(card.data), 'no mounts here')
    const inside = { ...card, home: join(card.data, 'medulla') }
    card.toml('[system]\nhostname = "arm"\n')
    expect(await applySettings(inside)).toMatchObject({ applied: true })
    card.toml('[system]\nhostname = "leg"\n')
    const reported = async () => {
      const { applied, report } = await applySettings(inside)
      expect(card.read('boot/medulla-report.txt')).toBe(report.map((line) => `${line}\n`).join(''))
      expect(applied).toBe(false)
      return report
    }
    const filler = fill(card.data)
    expect(await reported()).toEqual([
      'not everything was applied:',
      expect.stringMatching(
        /^the data partition of the card is full \(ENOSPC: .*\): sudo du -xhd 3 \/data .* then: sudo reboot$/,
      ),
    ])
    expect(card.read('data/etc/hostname')).toBe('arm\n')
    rmSync(filler)
    expect(spawnSync('mount', ['-o', 'remount,ro', card.data]).status).toBe(0)
    expect((await reported())[1]).toMatch(
      /^the data partition of the card cannot be used \(EROFS: .*\): use another card, /,
    )
    expect(spawnSync('mount', ['-o', 'remount,rw', card.data]).status).toBe(0)
    expect(await applySettings(inside)).toMatchObject({ applied: true })
    expect(card.read('data/etc/hostname')).toBe('leg\n')
  },
)

asRoot('a full FAT partition is reported on the console', async ({ skip }) => {
  const card = places()
  skip(!small(card.boot), 'no mounts here')
  card.toml('[system]\nhostname = "arm"\n')
  fill(card.boot)
  const { applied, report } = await applySettings(card)
  expect(applied).toBe(false)
  expect(report).toEqual([
    'not everything was applied:',
    expect.stringMatching(/^the FAT partition of the card is full \(ENOSPC: .*\): remove from it what /),
    expect.stringMatching(/^this report is not in medulla-report\.txt: the FAT partition of the card is full /),
  ])
})
