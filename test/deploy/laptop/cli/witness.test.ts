/** A robot's log in a file, and heads of it that other people have signed. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { toBase64 } from '../../../../deploy/shared/bundle/sshsig.ts'
import { encodeHeadNote, parseHeadNote } from '../../../../deploy/shared/headnote.ts'
import { loadSigner } from '../../../../deploy/shared/keys.ts'
import { GENESIS, RECEIPT_NAMESPACE, receiptDigest } from '../../../../deploy/shared/receiptlog.ts'
import { missing, refusal, run } from '../../../fixtures/tools.ts'
import { Laptop } from './medulla.ts'

const noKeygen = missing('ssh-keygen')
const laptop = new Laptop()
const file = (name: string) => join(laptop.dir, name)
let id = ''

beforeAll(async () => {
  await laptop.sim({ model: 'sim', handles: { led: { kind: 'output', line: 'GPIO17', safe: 0 } } })
  const { robots } = JSON.parse(readFileSync(file('config/robots.json'), 'utf8'))
  writeFileSync(file('robot.json'), JSON.stringify(robots.sim.card.signed ?? robots.sim.card))
  await push('one')
})
afterAll(() => laptop.close())

async function push(name: string): Promise<void> {
  const source = "import { robot } from 'medulla'\nrobot({ needs: { led: 'output' }, run({ led }) { led.write(1) } })\n"
  writeFileSync(file(`${name}.mjs`), source)
  expect(await laptop.run('push', `${name}.mjs`)).toMatchObject({ status: 0 })
}

test(`BUNDLE 18.1, 18.2: V15: a witness signs the head of a log that was verified, as ssh-keygen can check${noKeygen}`, async () => {
  const { status, events } = await laptop.json('receipts', '--witness', 'head.txt')
  expect(status).toBe(0)
  const note = parseHeadNote(readFileSync(file('head.txt'), 'utf8'))
  id = note.robot
  expect(events.at(-1)).toMatchObject({ event: 'witnessed', seq: note.seq, digest: note.digest })
  if (noKeygen === '') {
    const key = readFileSync(file('config/id_ed25519.pub'), 'utf8')
    writeFileSync(file('signers'), `ada namespaces="head@medulla" ${key}`)
    const args = ['-Y', 'verify', '-f', 'signers', '-I', 'ada', '-n', 'head@medulla', '-s', 'head.txt.sig']
    expect(run(laptop.dir, 'ssh-keygen', args, readFileSync(file('head.txt')))).toContain(
      'Good "head@medulla" signature',
    )
  }
  // never over files that are there
  expect(await laptop.run('receipts', '--witness', 'head.txt')).toMatchObject({ status: 2 })

  await push('two')
  const later = await laptop.run('receipts', '--contains', 'head.txt', '--signer', 'config/id_ed25519.pub')
  expect(later).toMatchObject({ status: 0 })
  expect(later.stdout).toContain(`contains number ${note.seq}, which SHA256:`)
})

test('BUNDLE 18.3: V15: a log without the entry, another robot, another witness or a changed note is refused', async () => {
  expect(await laptop.run('receipts', '--save', 'arm.log')).toMatchObject({ status: 0 })
  const offline = (...more: string[]) => laptop.run('receipts', '--from', 'arm.log', '--card', 'robot.json', ...more)
  expect(await offline('--verify')).toMatchObject({ status: 0 })
  expect(await offline('--contains', 'head.txt')).toMatchObject({ status: 0 })

  const lines = readFileSync(file('arm.log'), 'utf8').trimEnd().split('\n')
  const { seq } = parseHeadNote(readFileSync(file('head.txt'), 'utf8'))
  // the end is missing: the entries are right, but the witness saw more
  writeFileSync(file('arm.log'), `${lines.slice(0, seq - 1).join('\n')}\n`)
  expect(await offline('--verify')).toMatchObject({ status: 0 })
  const cut = await offline('--contains', 'head.txt')
  expect(cut).toMatchObject({ status: 3 })
  expect(cut.stderr).toContain('is missing')
  // the first broken entry is named
  const bent = lines.map((line, i) => (i === 1 ? line.replace('\\"outcome\\":\\"', '\\"outcome\\":\\"x') : line))
  writeFileSync(file('arm.log'), `${bent.join('\n')}\n`)
  const broken = await offline('--verify')
  expect(broken).toMatchObject({ status: 3 })
  expect(broken.stderr).toContain('receipt 2 ')

  writeFileSync(file('arm.log'), `${lines.join('\n')}\n`)
  const note = readFileSync(file('head.txt'), 'utf8')
  writeFileSync(file('head.txt'), note.replace(`\n${seq}\n`, `\n${seq + 1}\n`))
  expect(await offline('--contains', 'head.txt')).toMatchObject({ status: 3 })
  writeFileSync(file('head.txt'), note)
  await laptop.run('keygen') // the key is there already
  run(laptop.dir, 'sh', ['-c', "ssh-keygen -q -t ed25519 -N '' -f other"])
  const other = await offline('--contains', 'head.txt', '--signer', 'other.pub')
  expect(other.stderr).toContain('not by the key in other.pub')
})

test('BUNDLE 18.3: V15: a forked log, which the robot itself has signed, and a forged note are refused', async () => {
  expect(await laptop.run('receipts', '--save', 'true.log')).toMatchObject({ status: 0 })
  const offline = (log: string, ...more: string[]) => laptop.run('receipts', '--from', log, '-d', 'sim', ...more)
  const verified = await offline('true.log', '--verify')
  expect(verified).toMatchObject({ status: 0 })
  expect(verified.stderr).toContain('a file cannot show that its end is missing')

  // The robot, or whoever has its key, writes another history: every signature and every hash is right.
  const signer = await loadSigner(file('config/sim/sim/identity/id_ed25519'))
  let [before, fork] = [GENESIS, '']
  for (const line of readFileSync(file('true.log'), 'utf8').trimEnd().split('\n')) {
    const receipt = JSON.stringify({ ...JSON.parse(JSON.parse(line).receipt), prev: before, wallMs: 7 })
    const sig = toBase64(await signer.sign(RECEIPT_NAMESPACE, Buffer.from(receipt)))
    fork += `${JSON.stringify({ receipt, sig })}\n`
    before = receiptDigest(receipt)
  }
  writeFileSync(file('fork.log'), fork)
  expect(await offline('fork.log', '--verify')).toMatchObject({ status: 0 })
  const refused = await offline('fork.log', '--contains', 'head.txt')
  expect(refused).toMatchObject({ status: 3 })
  expect(refused.stderr).toMatch(/receipt \d+ is sha256:\w+, but sha256:\w+ is in head\.txt, signed by SHA256:/)
  expect(refused.stderr).not.toContain('--accept')

  // A note of nobody, and one whose signature is of another kind of statement.
  const text = readFileSync(file('head.txt'))
  const own = await loadSigner(file('config/id_ed25519'))
  writeFileSync(file('forged.txt'), text)
  writeFileSync(file('forged.txt.sig'), await own.sign('release@medulla', text))
  expect((await offline('true.log', '--contains', 'forged.txt')).stderr).toContain('expected namespace head@medulla')
  writeFileSync(file('forged.txt.sig'), readFileSync(file('head.txt.sig'), 'utf8').replace(/[A-Z]/, 'a'))
  expect(await offline('true.log', '--contains', 'forged.txt')).toMatchObject({ status: 3 })
})

test('an option of receipts that would have no effect is refused, and so is a file that is missing or no card', async () => {
  const said = async (...args: string[]) => {
    const { status, stderr } = await laptop.run('receipts', ...args)
    expect(status, stderr).toBe(2)
    return stderr
  }
  expect(await said('--signer', 'ada.pub')).toContain('--signer needs --contains')
  expect(await said('--card', 'robot.json')).toContain('--card needs --from')
  expect(await said('--accept')).toContain('--accept needs --verify')
  expect(await said('--from', 'true.log', '--save', 'again.log')).toContain('true.log is a saved log already')
  expect(await said('--contains', 'nothing.txt')).toContain('cannot read nothing.txt: there is no such file')
  expect(await said('--from', 'true.log', '--card', 'head.txt')).toContain('head.txt is not a card')
  expect(await said('--from', 'true.log', '-d', 'nobody')).toContain('expected --card FILE')
  expect(await said('--save', 'true.log')).toContain('true.log is there already')
})

test('BUNDLE 18.1: a note has one form', async () => {
  const note = { robot: id || `SHA256:${'A'.repeat(43)}`, seq: 12, digest: `sha256:${'0f'.repeat(32)}` }
  const text = encodeHeadNote(note)
  expect(parseHeadNote(text)).toEqual(note)
  for (const bad of [
    '',
    text.trimEnd(),
    `${text}\n`,
    text.replace('12', '012'),
    text.replace('12', '9'.repeat(17)),
    text.replace('=', ''),
  ]) {
    expect((await refusal(() => parseHeadNote(bad))).code).toBe('bad-bundle')
  }
})
