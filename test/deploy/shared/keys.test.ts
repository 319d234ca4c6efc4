import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { nextCounter } from '../../../deploy/shared/bundle/release.ts'
import { parseRecipient } from '../../../deploy/shared/bundle/seal.ts'
import { verify } from '../../../deploy/shared/bundle/sshsig.ts'
import {
  ensureSecretFile,
  generateAgeIdentity,
  generateKey,
  generateNoiseKey,
  loadSigner,
  noisePublic,
} from '../../../deploy/shared/keys.ts'
import { missing, refusal, run, tempFolder } from '../../fixtures/tools.ts'

const MESSAGE = Buffer.from('a statement\n')
const noKeygen = missing('ssh-keygen')
const noAgent = missing('ssh-keygen', 'ssh-agent', 'ssh-add')

test.skipIf(noKeygen)(`S1: a key of ssh-keygen signs as it is, with its own fingerprint${noKeygen}`, async () => {
  const folder = tempFolder()
  run(folder, 'ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'me@laptop', '-f', 'id_ed25519'])
  const signer = await loadSigner(join(folder, 'id_ed25519'))
  expect(run(folder, 'ssh-keygen', ['-lf', 'id_ed25519.pub'])).toContain(signer.fingerprint)
  expect(readFileSync(join(folder, 'id_ed25519.pub'), 'utf8')).toContain(signer.publicKey)
  expect(verify(await signer.sign('cert@medulla', MESSAGE), 'cert@medulla', MESSAGE).publicKey).toBe(signer.publicKey)
})

test.skipIf(noKeygen)(`S1: a generated key is one that ssh-keygen accepts${noKeygen}`, async () => {
  const folder = tempFolder()
  const path = join(folder, 'new', 'key')
  const signer = await generateKey(path, 'me@laptop')
  expect(statSync(path).mode & 0o777).toBe(0o600)
  expect(run(folder, 'ssh-keygen', ['-lf', path])).toContain(signer.fingerprint)
  expect(run(folder, 'ssh-keygen', ['-y', '-f', path]).trim()).toBe(`${signer.publicKey} me@laptop`)
  const before = readFileSync(path)
  expect((await refusal(() => generateKey(path, 'again'))).code).toBe('no-key')
  expect(readFileSync(path)).toEqual(before)
  expect(readdirSync(join(folder, 'new')).sort()).toEqual(['key', 'key.pub'])
})

test.skipIf(noKeygen)(
  `G6: a key with a passphrase signs through ssh-keygen, which asks for it${noKeygen}`,
  async () => {
    const folder = tempFolder()
    run(folder, 'ssh-keygen', ['-q', '-t', 'ed25519', '-a', '2', '-N', 'correct horse', '-f', 'key'])
    const signer = await loadSigner(join(folder, 'key'))
    const answer = (text: string) => {
      writeFileSync(join(folder, 'ask'), `#!/bin/sh\necho "${text}"\n`, { mode: 0o700 })
      setEnv({ SSH_ASKPASS: join(folder, 'ask'), SSH_ASKPASS_REQUIRE: 'force', SSH_AUTH_SOCK: undefined })
    }
    answer('correct horse')
    expect(verify(await signer.sign('cert@medulla', MESSAGE), 'cert@medulla', MESSAGE).publicKey).toBe(signer.publicKey)
    answer('battery staple')
    expect((await refusal(() => signer.sign('cert@medulla', MESSAGE))).code).toBe('passphrase')
  },
)

test.skipIf(noAgent)(`G6: BUNDLE 2.6: a key that only an agent holds signs${noAgent}`, async () => {
  const folder = tempFolder()
  run(folder, 'ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', 'key'])
  const said = run(folder, 'ssh-agent', ['-s', '-a', join(folder, 'agent')])
  const pid = Number(/SSH_AGENT_PID=(\d+)/.exec(said)?.[1])
  onTestFinished(() => {
    process.kill(pid)
  })
  setEnv({ SSH_AUTH_SOCK: join(folder, 'agent'), SSH_ASKPASS_REQUIRE: 'never' })
  execFileSync('ssh-add', ['-q', join(folder, 'key')])
  run(folder, 'mv', ['key', 'elsewhere'])
  const signer = await loadSigner(join(folder, 'key.pub'))
  expect(verify(await signer.sign('order@medulla', MESSAGE), 'order@medulla', MESSAGE).publicKey).toBe(signer.publicKey)
  execFileSync('ssh-add', ['-q', '-D'], { stdio: 'ignore' })
  expect((await refusal(() => signer.sign('order@medulla', MESSAGE))).code).toBe('no-key')
})

test('BUNDLE 2.5: a key that others may read is refused, with the command that helps', async () => {
  const path = join(tempFolder(), 'key')
  await generateKey(path, 'x')
  chmodSync(path, 0o640)
  const refused = await refusal(() => loadSigner(path))
  expect([refused.code, refused.hint]).toEqual(['no-key', `chmod 600 ${path}`])
})

test.skipIf(noKeygen)(`BUNDLE 2.1: keys of other types and broken files are refused as such${noKeygen}`, async () => {
  const folder = tempFolder()
  expect((await refusal(() => loadSigner(join(folder, 'none')))).message).toContain('ENOENT')
  for (const type of ['ecdsa', 'rsa']) {
    run(folder, 'ssh-keygen', ['-q', '-t', type, '-N', '', '-f', type])
    for (const path of [type, `${type}.pub`])
      expect((await refusal(() => loadSigner(join(folder, path)))).code).toBe('no-key')
  }
  const path = join(folder, 'key')
  await generateKey(path, 'x')
  const lines = readFileSync(path, 'utf8').split('\n')
  for (const text of ['', 'hello', lines.slice(0, 3).concat(lines.slice(-2)).join('\n'), 'x'.repeat(20_000)]) {
    writeFileSync(join(folder, 'broken'), text, { mode: 0o600 })
    expect((await refusal(() => loadSigner(join(folder, 'broken')))).code).toBe('no-key')
  }
})

test('BUNDLE 2.5: two halves of different keys do not sign', async () => {
  const folder = tempFolder()
  const [one, two] = [join(folder, 'one'), join(folder, 'two')]
  await generateKey(one, 'x')
  await generateKey(two, 'x')
  const blobs = [one, two].map((path) =>
    Buffer.from(readFileSync(path, 'utf8').split('\n').slice(1, -2).join(''), 'base64'),
  )
  const [first, second] = blobs
  if (!first || !second) throw new Error('no blobs')
  // the public section ends where the private one begins, at the same place in both
  const at = first.indexOf(Buffer.from('ssh-ed25519')) + 11 + 4 + 32
  const mixed = Buffer.concat([first.subarray(0, at), second.subarray(at)]).toString('base64')
  writeFileSync(
    join(folder, 'mixed'),
    `-----BEGIN OPENSSH PRIVATE KEY-----\n${mixed}\n-----END OPENSSH PRIVATE KEY-----\n`,
    { mode: 0o600 },
  )
  expect((await refusal(() => loadSigner(join(folder, 'mixed')))).message).toContain('do not match')
})

test('a secret file is made once, for its owner alone', async () => {
  const folder = tempFolder()
  const path = join(folder, 'deep', 'noise.key')
  let made = 0
  const make = () => Buffer.from([++made])
  const all = await Promise.all([1, 2, 3, 4].map(() => ensureSecretFile(path, make)))
  expect(new Set(all.map((bytes) => bytes.toString('hex'))).size).toBe(1)
  expect(statSync(path).mode & 0o777).toBe(0o600)
  expect(await ensureSecretFile(path, make)).toEqual(all[0])
  expect(readdirSync(join(folder, 'deep'))).toEqual(['noise.key'])
  chmodSync(path, 0o604)
  expect((await refusal(() => ensureSecretFile(path, make))).code).toBe('no-key')
  await expect(ensureSecretFile(join(folder, 'bad'), () => Promise.reject(new Error('no entropy')))).rejects.toThrow(
    'no entropy',
  )
  expect(existsSync(join(folder, 'bad'))).toBe(false)
})

test('noise and age keys', async () => {
  const noise = generateNoiseKey()
  expect([noise.secret.length, noise.public.length]).toEqual([32, 32])
  expect(noisePublic(noise.secret)).toEqual(noise.public)
  const age = await generateAgeIdentity()
  expect(age.identity).toMatch(/^AGE-SECRET-KEY-1/)
  expect(parseRecipient(age.recipient)).toHaveLength(32)
})

test('BUNDLE 6.6: the next counter is the time, above the floor, and not above what the robot lets in', () => {
  const range = { least: 900, most: 2000, now: 1500 }
  // by the laptop's clock; by the floor where that clock is behind; by the robot's clock where it is too far ahead
  expect(nextCounter(1000.7, range)).toBe(1000)
  expect(nextCounter(5, range)).toBe(900)
  expect(nextCounter(2000, range)).toBe(2000)
  expect(nextCounter(2001, range)).toBe(1500)
  expect(nextCounter(2001, { least: 1900, most: 2000, now: 7.5 })).toBe(1900)
})

function setEnv(values: Record<string, string | undefined>): void {
  for (const [name, value] of Object.entries(values)) {
    const before = process.env[name]
    onTestFinished(() => {
      if (before === undefined) delete process.env[name]
      else process.env[name] = before
    })
    if (value === undefined) delete process.env[name]
    else process.env[name] = value
  }
}
