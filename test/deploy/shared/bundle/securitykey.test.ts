/** Keys in FIDO tokens: their signatures, made by a token in software, checked by us and by ssh-keygen. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { armor, decodePublicKey, fingerprint, unarmor, verify } from '../../../../deploy/shared/bundle/sshsig.ts'
import { issueCertificate, verifyCertificate } from '../../../../deploy/shared/cert.ts'
import { generateNoiseKey, loadSigner } from '../../../../deploy/shared/keys.ts'
import { parseBoard } from '../../../../drivers/board/board.ts'
import { addOperator, loadOperators } from '../../../../runtime/store/operators.ts'
import { flip } from '../../../fixtures/random.ts'
import { Token } from '../../../fixtures/token.ts'
import { missing, refusal, run, tempFolder } from '../../../fixtures/tools.ts'

const MESSAGE = Buffer.from('{"format":"medulla-release/1"}\n')
const noKeygen = missing('ssh-keygen')
const RELEASE = 'release@medulla'

test('BUNDLE 2.7: the signature of a token says who signed, for each application "ssh:…"', async () => {
  for (const application of ['ssh:', 'ssh:robots']) {
    const token = new Token(application)
    const { publicKey } = token
    const expected = { publicKey, fingerprint: fingerprint(publicKey) }
    // 0x04: the person was verified by a PIN or a finger, too
    for (const flags of [0x01, 0x05]) {
      expect(verify(token.signMessage(RELEASE, MESSAGE, { flags }), RELEASE, MESSAGE)).toEqual(expected)
    }
    const refused = await refusal(() => verify(token.signMessage(RELEASE, MESSAGE), 'order@medulla', MESSAGE))
    expect(refused.message).toContain('expected namespace order@medulla')
  }
})

test('BUNDLE 2.7: a signature without a touch is refused, and so is one for another application or with another counter', async () => {
  const token = new Token()
  for (const flags of [0x00, 0x04, 0xfe]) {
    const { code, message } = await refusal(() =>
      verify(token.signMessage(RELEASE, MESSAGE, { flags }), RELEASE, MESSAGE),
    )
    expect([code, message]).toEqual(['bad-signature', 'signature: the security key was not touched'])
  }
  const web = token.signMessage(RELEASE, MESSAGE, { application: 'example.org' })
  expect((await refusal(() => verify(web, RELEASE, MESSAGE))).message).toBe('signature: does not match')
  const other = new Token('https://example.org')
  const refused = await refusal(() => verify(other.signMessage(RELEASE, MESSAGE), RELEASE, MESSAGE))
  expect(refused.message).toContain('expected an application "ssh:…"')
  const blob = Buffer.from(unarmor(token.signMessage(RELEASE, MESSAGE, { counter: 41 })))
  blob[blob.length - 1] = 42
  expect((await refusal(() => verify(armor(blob), RELEASE, MESSAGE))).message).toBe('signature: does not match')
})

test('BUNDLE 2.2, 2.7: no bit of the signature of a token is free, and its key does not pass for one in software', async () => {
  const blob = unarmor(new Token().signMessage(RELEASE, MESSAGE))
  for (let bit = 0; bit < blob.length * 8; bit++) {
    expect((await refusal(() => verify(armor(flip(blob, bit)), RELEASE, MESSAGE))).code).toBe('bad-signature')
  }
  const text = Buffer.from(blob)
    .toString('latin1')
    .replace('\0\0\0\x1ask-ssh-ed25519@openssh.com', '\0\0\0\x0bssh-ed25519')
  expect((await refusal(() => verify(armor(Buffer.from(text, 'latin1')), RELEASE, MESSAGE))).code).toBe('bad-signature')
  const { publicKey } = new Token()
  for (const line of [`${publicKey}=`, publicKey.replace('ed25519', 'ecdsa-sha2-nistp256'), `${publicKey} me`]) {
    expect((await refusal(() => decodePublicKey(line))).code).toBe('no-key')
  }
})

test.skipIf(noKeygen)(
  `BUNDLE 2.7: ssh-keygen verifies the same signatures, and refuses the same changes${noKeygen}`,
  () => {
    const folder = tempFolder()
    const token = new Token()
    writeFileSync(join(folder, 'allowed_signers'), `ada namespaces="${RELEASE}" ${token.publicKey}\n`)
    writeFileSync(join(folder, 'token.pub'), `${token.publicKey} ada\n`)
    expect(run(folder, 'ssh-keygen', ['-lf', 'token.pub'])).toContain(fingerprint(token.publicKey))
    const check = (armored: string) => {
      writeFileSync(join(folder, 'sig'), armored)
      const args = ['-Y', 'verify', '-f', 'allowed_signers', '-I', 'ada', '-s', 'sig', '-n', RELEASE]
      return run(folder, 'ssh-keygen', args, MESSAGE)
    }
    expect(check(token.signMessage(RELEASE, MESSAGE))).toContain(`Good "${RELEASE}" signature for ada`)
    expect(() => check(token.signMessage(RELEASE, MESSAGE, { application: 'example.org' }))).toThrow()
    const blob = Buffer.from(unarmor(token.signMessage(RELEASE, MESSAGE, { counter: 41 })))
    blob[blob.length - 1] = 42
    expect(() => check(armor(blob))).toThrow()
  },
)

test.skipIf(noKeygen)(
  `G6: BUNDLE 2.7: ssh-keygen signs with a token in an agent; a token that nobody touches does not sign${noKeygen}`,
  async () => {
    const folder = tempFolder()
    const token = new Token()
    const agent = await token.agent(join(folder, 'agent'))
    const before = process.env.SSH_AUTH_SOCK
    process.env.SSH_AUTH_SOCK = join(folder, 'agent')
    onTestFinished(() => {
      if (before === undefined) delete process.env.SSH_AUTH_SOCK
      else process.env.SSH_AUTH_SOCK = before
      agent.close()
    })
    writeFileSync(join(folder, 'token.pub'), `${token.publicKey} ada\n`)
    const signer = await loadSigner(join(folder, 'token.pub'))
    expect(signer).toMatchObject({ publicKey: token.publicKey, isExternal: true })
    const armored = await signer.sign(RELEASE, MESSAGE)
    expect(verify(armored, RELEASE, MESSAGE).publicKey).toBe(token.publicKey)
    const noise = Buffer.from(generateNoiseKey().public).toString('base64')
    const about = {
      format: 'medulla-cert/1',
      name: 'ada',
      key: token.publicKey,
      noise,
      created: '2026-11-30T00:00:00.000Z',
    } as const
    const card = await issueCertificate({ ...about, subject: 'operator' }, signer)
    expect(verifyCertificate(card).id).toBe(signer.fingerprint)
    const robot = await refusal(() =>
      issueCertificate({ ...about, subject: 'robot', age: `age1${'q'.repeat(58)}` }, signer),
    )
    expect(robot.message).toContain("'key'")
    // the list of operators, by card and by the line of the .pub file
    for (const operator of [card, `${token.publicKey} ada`]) {
      const home = { dir: tempFolder() }
      await addOperator(home, operator)
      const [one] = (await loadOperators(home)).all()
      expect(one).toMatchObject({
        name: 'ada',
        role: 'owner',
        publicKey: token.publicKey,
        fingerprint: signer.fingerprint,
      })
    }
    token.untouched = true
    expect((await refusal(() => signer.sign(RELEASE, MESSAGE))).message).toContain('was not touched')
  },
)

test('BUNDLE 2.7: the key file of a token names its key, and ssh-keygen is to sign with it', async () => {
  const token = new Token()
  const path = join(tempFolder(), 'id_ed25519_sk')
  writeFileSync(path, token.file, { mode: 0o600 })
  expect(await loadSigner(path)).toMatchObject({ publicKey: token.publicKey, isExternal: true })
})

test('BUNDLE 17.2: a builder whose key stands in the board file in two forms is refused: each builder counts once', () => {
  const token = new Token()
  const bytes = decodePublicKey(token.publicKey).bytes
  const board = (...builders: string[]) =>
    parseBoard(JSON.stringify({ model: 'sim', handles: {}, requireReproduced: { count: 2, builders } }), 'board.json')
  expect(board(token.publicKey, new Token().publicKey).requireReproduced?.builders).toHaveLength(2)
  const head = Buffer.concat([Buffer.from([0, 0, 0, 11]), Buffer.from('ssh-ed25519'), Buffer.from([0, 0, 0, 32])])
  const software = Buffer.concat([head, bytes]).toString('base64')
  for (const line of [`ssh-ed25519 ${software}`, software]) {
    expect(() => board(token.publicKey, line)).toThrow('expected each builder once')
  }
  // the same key with and without its type, and more builders asked for than there are
  expect(() => board(`ssh-ed25519 ${software}`, software)).toThrow('expected each builder once')
  expect(() => board(token.publicKey)).toThrow('expected at least as many builders as count says')
})
