import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { pinRobot } from '../../../../deploy/laptop/cli/pins.ts'
import { findRobot, parseAddress } from '../../../../deploy/laptop/cli/robot.ts'
import {
  configDir,
  type KnownRobot,
  keyPath,
  operator,
  readRobots,
  writeRobots,
  writeSettings,
} from '../../../../deploy/laptop/config.ts'
import { verifyCertificate } from '../../../../deploy/shared/cert.ts'
import { generateKey } from '../../../../deploy/shared/keys.ts'
import { robotCard } from './cards.ts'

const pin = (...[dir, name, robot]: [string, string, KnownRobot]) => pinRobot(dir, name, robot, { again: '' })

let dir: string
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'medulla-config-'))
})
afterEach(() => rmSync(dir, { recursive: true, force: true }))

test('the config folder is MEDULLA_CONFIG, or in XDG_CONFIG_HOME, or in ~/.config', () => {
  expect(configDir({ MEDULLA_CONFIG: '/a', XDG_CONFIG_HOME: '/b', HOME: '/c' })).toBe('/a')
  expect(configDir({ XDG_CONFIG_HOME: '/b', HOME: '/c' })).toBe('/b/medulla')
  expect(configDir({ XDG_CONFIG_HOME: 'relative', HOME: '/c' })).toBe('/c/.config/medulla')
  expect(configDir({ HOME: '/c' })).toBe('/c/.config/medulla')
})

test('S1: the signing key is --key, the setting, ~/.ssh/id_ed25519 or the one from keygen, in this order', async () => {
  const env = { HOME: join(dir, 'home') }
  expect(() => keyPath(dir, undefined, env)).toThrow(
    expect.objectContaining({ code: 'no-key', hint: 'medulla keygen' }),
  )
  writeFileSync(join(dir, 'id_ed25519'), '')
  expect(keyPath(dir, undefined, env)).toBe(join(dir, 'id_ed25519'))
  mkdirSync(join(dir, 'home/.ssh'), { recursive: true })
  writeFileSync(join(dir, 'home/.ssh/id_ed25519'), '')
  expect(keyPath(dir, undefined, env)).toBe(join(dir, 'home/.ssh/id_ed25519'))
  await writeSettings(dir, { key: 'id_ed25519' })
  expect(keyPath(dir, undefined, env)).toBe(join(dir, 'id_ed25519'))
  expect(keyPath(dir, '/else/key', env)).toBe('/else/key')
})

test("S1: an operator's card and Noise key are made once, with a signed card and a private key file", async () => {
  const path = join(dir, 'key')
  const signer = await generateKey(path, 'test')
  const first = await operator(dir, path)
  const card = verifyCertificate(first.card)
  expect(card).toMatchObject({ subject: 'operator', key: signer.publicKey, id: signer.fingerprint })
  expect(first.noiseSecret).toHaveLength(32)
  const noise = join(first.cardFile, '../noise.key')
  expect(statSync(noise).mode & 0o777).toBe(0o600)
  expect(statSync(first.cardFile).mode & 0o777).toBe(0o600)

  expect(await operator(dir, path)).toEqual(first)
  await generateKey(join(dir, 'other'), 'test')
  expect((await operator(dir, join(dir, 'other'))).card).not.toEqual(first.card)

  chmodSync(noise, 0o644)
  await expect(operator(dir, path)).rejects.toMatchObject({ code: 'no-key', hint: `chmod 600 ${noise}` })
})

test('remembered robots keep all their fields', async () => {
  const { signed } = await robotCard('arm')
  await pin(dir, 'arm', { address: '10.0.0.5:7171', card: signed })
  await writeRobots(dir, { ...readRobots(dir), default: 'arm' })
  const { signed: leg } = await robotCard('leg')
  await pin(dir, 'leg', { address: 'leg.local:7171', card: leg })
  expect(readRobots(dir)).toEqual({
    robots: { arm: { address: '10.0.0.5:7171', card: signed }, leg: { address: 'leg.local:7171', card: leg } },
    default: 'arm',
  })
  expect(existsSync(join(dir, `robots.json.${process.pid}.new`))).toBe(false)
  expect(JSON.parse(readFileSync(join(dir, 'robots.json'), 'utf8'))).toEqual(readRobots(dir))
})

test('a robot may be called constructor, and no name is known before it is stored', async () => {
  for (const name of ['constructor', '__proto__', 'toString']) {
    await expect(findRobot(dir, name)).rejects.toMatchObject({ code: 'unknown-robot' })
    expect(readRobots(dir).robots[name]).toBeUndefined()
  }
  const { signed } = await robotCard('constructor')
  await pinRobot(dir, 'constructor', { address: '10.0.0.1:7171', card: signed }, { again: '' })
  expect(await findRobot(dir, undefined)).toMatchObject({ name: 'constructor', host: '10.0.0.1' })
})

test('a damaged config file is refused by name', async () => {
  const path = join(dir, 'robots.json')
  for (const text of ['{', '[]', '{"robots":{"arm":{"address":"x"}}}', '{"robots":{"../up":{}}}']) {
    writeFileSync(path, text)
    expect(() => readRobots(dir)).toThrow(path)
  }
})

test('-d takes a name or an address, and can be left out with one robot or a default', async () => {
  await expect(findRobot(dir, undefined)).rejects.toMatchObject({ code: 'unknown-robot' })
  const arm = await robotCard('arm')
  await pin(dir, 'arm', { address: '10.0.0.5:7171', card: arm.signed })
  expect(await findRobot(dir, undefined)).toMatchObject({ name: 'arm', host: '10.0.0.5', port: 7171 })
  expect((await findRobot(dir, 'arm')).card).toEqual(verifyCertificate(arm.signed))
  expect(await findRobot(dir, '10.0.0.5')).toMatchObject({ name: 'arm' })
  await pin(dir, 'leg', { address: '10.0.0.6:7171', card: (await robotCard('leg')).signed })
  await expect(findRobot(dir, undefined)).rejects.toMatchObject({
    code: 'usage',
    message: 'which robot? known: arm, leg',
  })
  await expect(findRobot(dir, 'leg2')).rejects.toMatchObject({ code: 'unknown-robot' })
})

test('addresses are parsed with and without port, and bad ones refused', () => {
  expect(parseAddress('pi.local')).toEqual({ host: 'pi.local', port: 7171 })
  expect(parseAddress('[fe80::1]:80')).toEqual({ host: 'fe80::1', port: 80 })
  expect(parseAddress('fe80::1%usb0')).toEqual({ host: 'fe80::1%usb0', port: 7171 })
  expect(parseAddress('[fe80::1%usb0]:80')).toEqual({ host: 'fe80::1%usb0', port: 80 })
  expect(parseAddress('::1')).toEqual({ host: '::1', port: 7171 })
  expect(() => parseAddress('http://pi@192.168.1.20:7171/')).toThrow(
    expect.objectContaining({ hint: 'write 192.168.1.20:7171' }),
  )
  for (const bad of ['', 'a:b', 'a:0', 'a:65536', 'a b', 'user@pi.local', 'http://pi.local', '[pi.local]:80'])
    expect(() => parseAddress(bad)).toThrow('HOST')
})
