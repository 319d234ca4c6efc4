import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { generateKey } from '../../../deploy/shared/keys.ts'
import { applySettings, publishCard } from '../../../runtime/card/apply.ts'

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

test('a mistake changes nothing, and is written beside the file', async () => {
  const card = places()
  card.toml('[system]\nhostname = "arm"\n[robot]\nboard = "bord.json"\n')
  expect(await applySettings(card)).toMatchObject({ applied: false })
  expect(card.read('boot/medulla-report.txt')).toMatch(
    /^nothing was applied:\nmedulla\.toml, line \d+: there is no file bord\.json/,
  )
  expect(() => card.read('data/etc/hostname')).toThrow('ENOENT')
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

test('two cards become two robots, and a card keeps its identity', async () => {
  const [one, other] = [places(), places()]
  const id = await publishCard(one)
  expect(await publishCard(one)).toBe(id)
  expect(await publishCard(other)).not.toBe(id)
})
