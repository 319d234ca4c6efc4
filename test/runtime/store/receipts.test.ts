import { execFileSync } from 'node:child_process'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { armor } from '../../../deploy/shared/bundle/sshsig.ts'
import { generateKey, type Signer } from '../../../deploy/shared/keys.ts'
import { GENESIS, receiptDigest, verifyLog } from '../../../deploy/shared/receiptlog.ts'
import { type ReceiptFields, Receipts } from '../../../runtime/store/receipts.ts'
import { seeded } from '../../fixtures/random.ts'
import { tempFolder } from '../../fixtures/tools.ts'
import { compile, run } from './bed.ts'

const FIELDS: ReceiptFields = {
  slot: 'main',
  outcome: 'committed',
  from: null,
  to: `sha256:${'1'.repeat(64)}`,
  phases: [{ phase: 'verify', startMs: 0, ms: 2 }],
  wallMs: 2,
  gapMs: 0.1,
  stateBytes: 10,
  edges: 0,
  confined: false,
  fence: 3,
}

async function logOf(count: number): Promise<{ dir: string; signer: Signer; lines: string[]; path: string }> {
  const dir = tempFolder()
  const signer = await generateKey(join(dir, 'key'), 'robot')
  const log = await Receipts.open({ dir, signer })
  await Promise.all(Array.from({ length: count }, (_, n) => log.append({ ...FIELDS, wallMs: n })))
  const lines = await log.lines(count)
  await log.close()
  return { dir, signer, lines, path: join(dir, 'receipts.ndjson') }
}

test('V15: the log is chained, signed and checked offline; altered, removed, reordered and inserted entries are named', async () => {
  const { dir, signer, lines } = await logOf(6)
  const key = signer.publicKey
  const [a = '', b = '', c = '', d = '', e = '', f = ''] = lines
  const head = { seq: 6, digest: receiptDigest(JSON.parse(f).receipt) }
  expect(verifyLog(lines, key)).toEqual({ ok: true, entries: 6, first: 1, head })
  expect(verifyLog([], key)).toEqual({ ok: true, entries: 0, first: 1, head: { seq: 0, digest: GENESIS } })

  const problem = (list: string[], opts = {}): unknown => {
    const verdict = verifyLog(list, key, opts)
    return verdict.ok ? verdict : verdict.problem
  }
  const altered = c.replace('\\"wallMs\\":2', '\\"wallMs\\":3')
  expect(altered).not.toBe(c)
  expect(problem([a, b, altered, d, e, f])).toEqual({ line: 3, message: 'signature: does not match' })
  expect(problem([a, c, d, e, f])).toEqual({ line: 2, message: 'has number 3, expected 2' })
  expect(problem([a, c, b, d, e, f])).toEqual({ line: 2, message: 'has number 3, expected 2' })
  expect(problem([a, b, b, c, d, e, f])).toEqual({ line: 3, message: 'has number 2, expected 3' })
  expect(problem([b, c, d, e, f])).toEqual({ line: 1, message: 'has number 2, expected 1' })
  expect(problem([a, 'x', c])).toEqual({ line: 2, message: 'the line is not a JSON object' })
  expect(problem([a, `${b.slice(0, -1)},"more":1}`])).toMatchObject({ line: 2 })

  // an entry of the same number from another history of the same robot
  const other = await Receipts.open({ dir: tempFolder(), signer })
  await other.append(FIELDS)
  await other.append(FIELDS)
  const [, inserted = ''] = await other.lines(2)
  await other.close()
  expect(problem([a, inserted, c])).toMatchObject({ line: 2, message: expect.stringMatching(/^follows sha256:/) })
  // another robot's log
  const stranger = await generateKey(join(dir, 'other'), 'other')
  expect(verifyLog(lines, stranger.publicKey)).toMatchObject({ ok: false, entries: 0, problem: { line: 1 } })

  // cut off at its end: only the head that was noted earlier shows it
  expect(verifyLog([a, b, c], key)).toMatchObject({ ok: true, head: { seq: 3 } })
  expect(problem([a, b, c], { seen: head })).toMatchObject({
    line: 4,
    message: expect.stringContaining('ends at number 3'),
  })
  expect(problem(lines, { seen: { seq: 2, digest: GENESIS } })).toMatchObject({ line: 2 })
  expect(verifyLog(lines, key, { seen: head }).ok).toBe(true)
  // the newest part of a long log
  expect(verifyLog([c, d, e, f], key, { partial: true })).toEqual({ ok: true, entries: 4, first: 3, head })
  expect(problem([c, e, f], { partial: true })).toMatchObject({ line: 2 })
})

test('HANDOVER 8.20: a part of a log contains the head seen earlier, or follows it, and reaches the head that is reported', async () => {
  const { signer, lines } = await logOf(6)
  const headOf = (seq: number) => ({ seq, digest: receiptDigest(JSON.parse(lines[seq - 1] ?? '').receipt) })
  const verify = (from: number, to: number, heads: { seen?: number; reported?: number }) => {
    const { seen, reported } = heads
    const verdict = verifyLog(lines.slice(from - 1, to), signer.publicKey, {
      partial: true,
      ...(seen === undefined ? {} : { seen: headOf(seen) }),
      ...(reported === undefined ? {} : { reported: headOf(reported) }),
    })
    return verdict.ok ? `${verdict.first} to ${verdict.head.seq}` : verdict.problem
  }
  expect(verify(3, 6, { seen: 4, reported: 6 })).toBe('3 to 6')
  expect(verify(3, 6, { seen: 2, reported: 5 })).toBe('3 to 6')
  // cut off at its end: the part itself has no mark of that
  expect(verify(3, 5, {})).toBe('3 to 5')
  const missing = (seq: number, why: string) => `is missing: the log ends at number 5, but number ${seq} ${why}`
  expect(verify(3, 5, { seen: 6 })).toEqual({ line: 4, message: missing(6, 'was seen earlier') })
  expect(verify(3, 5, { seen: 4, reported: 6 })).toEqual({ line: 4, message: missing(6, 'is what the robot reports') })
  // too short at its beginning: it may be another log from there on
  expect(verify(3, 6, { seen: 1 })).toMatchObject({ unproven: true, message: expect.stringContaining('number 1') })
  // another history, at the entry itself and right before the first
  for (const seq of [2, 4]) {
    const seen = { seq, digest: GENESIS }
    const verdict = verifyLog(lines.slice(2), signer.publicKey, { partial: true, seen })
    expect(verdict).toMatchObject({ ok: false, problem: { message: expect.stringContaining('was seen earlier') } })
  }
  expect(verifyLog([], signer.publicKey, { reported: headOf(1) })).toMatchObject({ ok: false })
})

test('V15: ssh-keygen verifies a receipt with the robot public key and nothing of ours', async () => {
  const { dir, signer, lines } = await logOf(1)
  const { receipt, sig } = JSON.parse(lines[0] ?? '')
  await writeFile(join(dir, 'sig'), armor(Buffer.from(sig, 'base64')))
  await writeFile(join(dir, 'signers'), `robot namespaces="receipt@medulla" ${signer.publicKey}\n`)
  const args = [
    '-Y',
    'verify',
    '-f',
    join(dir, 'signers'),
    '-I',
    'robot',
    '-n',
    'receipt@medulla',
    '-s',
    join(dir, 'sig'),
  ]
  expect(execFileSync('ssh-keygen', args, { input: receipt }).toString()).toContain('Good "receipt@medulla" signature')
  expect(() => execFileSync('ssh-keygen', args, { input: `${receipt} `, stdio: 'pipe' })).toThrow()
})

test('entries hold what was given, in the order of the calls, and the log goes on after a restart', async () => {
  const { dir, signer } = await logOf(3)
  const log = await Receipts.open({ dir, signer }, () => new Date(0))
  expect(log.head().seq).toBe(3)
  const made = await log.append(FIELDS)
  expect(made).toEqual({
    format: 'medulla-receipt/1',
    seq: 4,
    prev: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
    robot: signer.fingerprint,
    time: '1970-01-01T00:00:00.000Z',
    ...FIELDS,
  })
  expect((await log.read(2)).map((one) => JSON.parse(one.receipt).seq)).toEqual([3, 4])
  expect((await log.read(100)).map((one) => JSON.parse(one.receipt).seq)).toEqual([1, 2, 3, 4])
  expect(await log.read(0)).toEqual([])
  expect(verifyLog(await log.lines(100), signer.publicKey).ok).toBe(true)
  await expect(log.append({ ...FIELDS, reason: 'x'.repeat(100_000) })).rejects.toMatchObject({ code: 'internal' })
  expect((await log.append(FIELDS)).seq).toBe(5)
  await log.close()
})

test('a last line torn at any byte is cut off at open, and only that', async () => {
  const { dir, signer, lines, path } = await logOf(3)
  const whole = Buffer.from(`${lines.join('\n')}\n`)
  const two = Buffer.byteLength(`${lines.slice(0, 2).join('\n')}\n`)
  for (let end = two + 1; end < whole.length; end += 37) {
    await writeFile(path, whole.subarray(0, end))
    const log = await Receipts.open({ dir, signer })
    expect(log.head().seq).toBe(2)
    expect(log.problems).toEqual([`receipts: ${end - two} bytes of an unfinished entry were cut off`])
    expect(await readFile(path)).toEqual(whole.subarray(0, two))
    await log.close()
  }
  const log = await Receipts.open({ dir, signer })
  expect((await log.append(FIELDS)).seq).toBe(3)
  expect(verifyLog(await log.lines(10), signer.publicKey)).toMatchObject({ ok: true, entries: 3 })
  await log.close()
})

test('a damaged entry in the middle stays for the verification to name; a damaged last one starts a new log', async () => {
  const { dir, signer, lines, path } = await logOf(3)
  const [a = '', b = '', c = ''] = lines
  await writeFile(path, `${a}\n${b.slice(1)}\n${c}\n`)
  let log = await Receipts.open({ dir, signer })
  expect(log.problems).toEqual([])
  expect((await log.append(FIELDS)).seq).toBe(4)
  const served = (await log.read(10)).map((one) => JSON.stringify(one))
  expect(verifyLog(served, signer.publicKey)).toMatchObject({ ok: false, problem: { line: 2 } })
  await log.close()

  await writeFile(path, `${a}\n${b.slice(1)}\n`)
  log = await Receipts.open({ dir, signer }, () => new Date(5))
  expect(log.problems).toHaveLength(1)
  expect((await log.append(FIELDS)).seq).toBe(1)
  await log.close()
  expect((await readdir(dir)).filter((name) => name.startsWith('receipts'))).toEqual([
    'receipts.ndjson',
    'receipts.ndjson.damaged-5',
  ])
})

test('V15: a robot killed at seeded points of writing leaves a log that verifies and holds all it answered', async () => {
  const dir = tempFolder()
  const script = await compile('./child.ts', dir)
  const random = seeded(5)
  const home = join(dir, 'home')
  await mkdir(home)
  const signer = await generateKey(join(home, 'key'), 'robot')
  let answered = 0
  for (let round = 0; round < 6 || answered <= 5; round++) {
    const child = run(script, ['receipts', home])
    await child.line()
    await sleep(random() * 60)
    child.process.kill('SIGKILL')
    await child.ended
    answered = Math.max(answered, Number(child.lines.at(-1)) || 0)
    const log = await Receipts.open({ dir: home, signer })
    expect(log.head().seq).toBeGreaterThanOrEqual(answered)
    await log.close()
  }
  expect(answered).toBeGreaterThan(5)
  const lines = (await readFile(join(home, 'receipts.ndjson'), 'utf8')).split('\n').slice(0, -1)
  expect(verifyLog(lines, signer.publicKey)).toMatchObject({ ok: true, entries: lines.length })
})
