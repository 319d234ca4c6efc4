import { chmod, mkdir, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { verifyCertificate } from '../../../deploy/shared/cert.ts'
import { noisePublic } from '../../../deploy/shared/keys.ts'
import { openHome, readEndpointKeys } from '../../../runtime/store/home.ts'
import { takeLock } from '../../../runtime/store/lock.ts'
import { seeded } from '../../fixtures/random.ts'
import { tempFolder } from '../../fixtures/tools.ts'
import { compile, run } from './bed.ts'

const mode = async (path: string): Promise<number> => (await stat(path)).mode & 0o777
const now = (): Date => new Date('2026-01-02T03:04:05.678Z')

test('CHANNEL 1.3: first boot makes a home with its keys and a certificate; the next boot finds the same robot', async () => {
  const dir = join(tempFolder(), 'home')
  const home = await openHome(dir, { name: 'robo', now })
  expect(home).toMatchObject({ dir, name: 'robo', id: home.signer.fingerprint })
  const cert = verifyCertificate(home.card)
  expect(cert).toMatchObject({ subject: 'robot', name: 'robo', id: home.id, created: '2026-01-02T03:04:05.678Z' })
  expect(cert.age).toMatch(/^age1/)
  const secret = Buffer.from((await readFile(join(dir, 'endpoint/noise.key'), 'utf8')).trim(), 'hex')
  expect(cert.noise).toBe(Buffer.from(noisePublic(secret)).toString('base64'))
  expect(await readFile(join(dir, 'endpoint/age.key'), 'utf8')).toMatch(/^AGE-SECRET-KEY-1/)

  for (const folder of ['', 'identity', 'endpoint', 'operators', 'store', 'slots']) {
    expect(await mode(join(dir, folder)), folder).toBe(0o700)
  }
  for (const file of ['identity/id_ed25519', 'endpoint/noise.key', 'endpoint/age.key']) {
    expect(await mode(join(dir, file)), file).toBe(0o600)
  }
  expect(await readFile(join(dir, 'operators/allowed_signers'), 'utf8')).toBe('')
  expect(JSON.parse(await readFile(join(dir, 'operators/roles.json'), 'utf8'))).toEqual({})
  await home.close()

  const again = await openHome(dir)
  expect([again.id, again.name, again.card]).toEqual([home.id, 'robo', home.card])
  await again.close()

  const renamed = await openHome(dir, { name: 'arm' })
  expect(verifyCertificate(renamed.card)).toEqual({ ...cert, name: 'arm' })
  await renamed.close()
})

test('a secret that others can read, that is a link, that is gone or that was exchanged is refused, with what to type', async () => {
  const dir = tempFolder()
  await (await openHome(dir, { name: 'robo' })).close()
  const key = join(dir, 'endpoint/noise.key')
  const text = await readFile(key, 'utf8')
  await chmod(key, 0o640)
  await expect(openHome(dir)).rejects.toMatchObject({ code: 'no-key', hint: `chmod 600 ${key}` })
  await chmod(key, 0o600)
  await chmod(dir, 0o777)
  await expect(openHome(dir)).rejects.toMatchObject({ code: 'no-key', hint: `chmod 700 ${dir}` })
  await chmod(dir, 0o700)

  await rm(key)
  await expect(openHome(dir)).rejects.toMatchObject({ code: 'no-key', message: `${key} is missing` })
  await symlink('/dev/zero', key)
  await expect(openHome(dir)).rejects.toMatchObject({ code: 'no-key' })
  await rm(key)
  await writeFile(key, `${'11'.repeat(32)}\n`, { mode: 0o600 })
  await expect(openHome(dir)).rejects.toMatchObject({ code: 'robot-mismatch' })
  await writeFile(key, text)
  await writeFile(join(dir, 'robot.json'), 'x')
  await expect(openHome(dir)).rejects.toMatchObject({ code: 'robot-mismatch' })
  await rm(join(dir, 'robot.json'))
  await rm(join(dir, 'identity'), { recursive: true })
  // no certificate was given out, so a new robot is born
  await (await openHome(dir, { name: 'robo' })).close()
  await rm(join(dir, 'identity'), { recursive: true })
  await expect(openHome(dir)).rejects.toMatchObject({ code: 'no-key' })
  await expect(openHome(dir, { name: '../x' })).rejects.toMatchObject({ code: 'usage' })
})

test('HANDOVER 8.15: the keys for the endpoint are read from files that are no links, and are in no error', async () => {
  const dir = tempFolder()
  const home = await openHome(dir, { name: 'robo' })
  const key = join(dir, 'endpoint/noise.key')
  const text = (await readFile(key, 'utf8')).trim()
  expect(await readEndpointKeys(home)).toEqual({
    noise: text,
    age: expect.stringMatching(/^AGE-SECRET-KEY-1[0-9A-Z]+$/),
  })
  await chmod(key, 0o640)
  await expect(readEndpointKeys(home)).rejects.toMatchObject({ code: 'no-key', hint: `chmod 600 ${key}` })
  await rm(key)
  await symlink(join(dir, 'identity/id_ed25519'), key)
  await expect(readEndpointKeys(home)).rejects.toMatchObject({
    code: 'no-key',
    message: expect.stringContaining('ELOOP'),
  })
  await rm(key)
  await writeFile(key, `${text}00\n`, { mode: 0o600 })
  await expect(readEndpointKeys(home)).rejects.toMatchObject({
    code: 'no-key',
    message: expect.not.stringContaining(text),
  })
  await home.close()
})

test('CHANNEL 3.11: a pre-shared key that is there and cannot be used is refused, never ignored', async () => {
  const dir = tempFolder()
  const home = await openHome(dir, { name: 'robo' })
  const key = join(dir, 'endpoint/psk.key')
  const text = 'ab'.repeat(32)
  expect(await readEndpointKeys(home)).not.toHaveProperty('psk')
  await writeFile(key, `${text}\n`, { mode: 0o600 })
  expect(await readEndpointKeys(home)).toMatchObject({ psk: text })
  await chmod(key, 0o640)
  await expect(readEndpointKeys(home)).rejects.toMatchObject({ code: 'no-key', hint: `chmod 600 ${key}` })
  await chmod(key, 0o600)
  for (const wrong of ['', '\n', text.slice(1), `${text}0`, 'xy'.repeat(32)]) {
    await writeFile(key, wrong)
    await expect(readEndpointKeys(home)).rejects.toMatchObject({
      code: 'no-key',
      message: expect.not.stringContaining(text.slice(1)),
    })
  }
  await rm(key)
  await symlink('/nowhere', key)
  await expect(readEndpointKeys(home)).rejects.toMatchObject({ code: 'no-key' })
  await home.close()
})

test('two runtimes never share a home: the second is told the pid, and the lock of a killed one is recovered', async () => {
  const dir = tempFolder()
  const script = await compile('./child.ts', dir)
  const home = join(dir, 'home')
  const child = run(script, ['home', home])
  await child.line()
  const id = await child.line()
  const pid = child.process.pid
  await expect(openHome(home)).rejects.toMatchObject({
    code: 'in-progress',
    message: `the robot home ${home} is in use by process ${pid}`,
  })
  child.process.kill('SIGKILL')
  await child.ended
  const mine = await openHome(home)
  expect(mine.id).toBe(id)
  await expect(openHome(home)).rejects.toMatchObject({ code: 'in-progress' })
  await mine.close()
  await mine.close()
  await (await openHome(home)).close()
})

test('of many that find the lock of a killed process, exactly one wins', async () => {
  const dir = tempFolder()
  const script = await compile('./child.ts', dir)
  const locked = join(dir, 'lock')
  for (let round = 0; round < 4; round++) {
    const children = Array.from({ length: 5 }, () => run(script, ['lock', locked]))
    await Promise.all(children.map((child) => child.line()))
    for (const child of children) child.process.stdin?.write('go\n')
    const said = await Promise.all(children.map((child) => child.line()))
    expect(
      said.filter((line) => line === 'won'),
      said.join(),
    ).toHaveLength(1)
    expect(
      said.filter((line) => line.startsWith('in-progress')),
      said.join(),
    ).toHaveLength(4)
    for (const child of children) child.process.kill('SIGKILL')
    await Promise.all(children.map((child) => child.ended))
    expect((await readdir(locked)).length).toBeLessThan(6)
  }
})

test('a lock left by a recycled pid, by another boot or by a power cut is not a holder', async () => {
  const dir = join(tempFolder(), 'lock')
  await mkdir(dir)
  const boot = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '')).trim() || null
  const left = [
    JSON.stringify({ pid: process.pid, start: '1', boot, nonce: 'x', released: false }),
    JSON.stringify({ pid: process.pid, start: '1', boot: 'other', nonce: 'x', released: false }),
    '',
    '\0\0\0',
  ]
  // where there is no /proc, a live pid is all that can be asked for
  for (const content of boot === null ? left.slice(1) : left) {
    const highest =
      (await readdir(dir))
        .map(Number)
        .sort((a, b) => a - b)
        .at(-1) ?? 0
    await writeFile(join(dir, String(highest + 1)), content)
    const lock = await takeLock(dir, 'it')
    await expect(takeLock(dir, 'it')).rejects.toMatchObject({ code: 'in-progress' })
    await lock.release()
  }
})

test('a first boot that is killed at seeded points is completed by the next', async () => {
  const dir = tempFolder()
  const script = await compile('./child.ts', dir)
  const random = seeded(3)
  let unfinished = 0
  for (let round = 0; round < 10 || unfinished === 0; round++) {
    const home = join(dir, `home${round}`)
    const child = run(script, ['home', home])
    await child.line()
    await sleep(random() * 60)
    child.process.kill('SIGKILL')
    await child.ended
    const before = child.lines[1]
    if (before === undefined) unfinished++
    const opened = await openHome(home, { name: 'robo' })
    if (before !== undefined) expect(opened.id).toBe(before)
    expect(verifyCertificate(opened.card).id).toBe(opened.id)
    expect((await readdir(home)).filter((name) => name.startsWith('.'))).toEqual([])
    await opened.close()
  }
  expect(unfinished).toBeGreaterThan(0)
})
