/** `medulla pair` of the built CLI, with the built runtime: a robot without an owner, one with a pre-shared key, one with new keys. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from '../../../e2e/eventually.ts'
import { RUNTIME } from '../../../e2e/programs.ts'
import { CLI, type Ended, Laptop } from './medulla.ts'

const laptop = new Laptop()
const second = new Laptop()
const robots = new Set<Rover>()
let rover: Rover

beforeAll(async () => {
  rover = await Rover.start('rover')
})
afterAll(async () => {
  for (const robot of robots) await robot.end()
  await second.close()
  await laptop.close()
})

/** A robot that no laptop knows: the built runtime with a home of its own. */
class Rover {
  readonly name: string
  readonly home: string
  port = 0
  log = ''
  #process: ChildProcess | undefined

  private constructor(name: string) {
    this.name = name
    this.home = join(laptop.dir, `${name}-${randomBytes(4).toString('hex')}`)
    mkdirSync(this.home, { mode: 0o700 })
    writeFileSync(join(this.home, 'board.json'), JSON.stringify({ model: 'sim', handles: {} }))
    robots.add(this)
  }

  static async start(name: string, psk?: string, port = 0): Promise<Rover> {
    const robot = new Rover(name)
    robot.port = port
    if (psk !== undefined) {
      // the first start makes the keys
      await robot.begin()
      await robot.end()
      writeFileSync(join(robot.home, 'endpoint/psk.key'), `${psk}\n`, { mode: 0o600 })
    }
    await robot.begin()
    return robot
  }

  /** On a FAT partition of a card, for example. */
  get codeFile(): string {
    return join(this.home, '../boot-code.txt')
  }

  async begin(): Promise<void> {
    this.log = ''
    const args = ['--home', this.home, '--sim', '--name', this.name, '--port', String(this.port)]
    const child = spawn(process.execPath, [RUNTIME, ...args, '--pairing-file', this.codeFile], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#process = child
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.log += text
    })
    let said = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text
    })
    const line = await eventually(() => (said.includes('\n') || child.exitCode !== null) && (said || this.log))
    const { event, port } = JSON.parse(line) as { event: string; port: number }
    expect(event, line).toBe('listening')
    this.port = port
    // the endpoint listens a little later
    await eventually(() => this.log.includes('"msg":"listening"'))
  }

  async end(): Promise<void> {
    const child = this.#process
    this.#process = undefined
    if (child === undefined || child.exitCode !== null) return
    const gone = once(child, 'exit')
    child.kill('SIGTERM')
    await gone
  }

  get address(): string {
    return `127.0.0.1:${this.port}`
  }

  get id(): string {
    const { cert } = JSON.parse(readFileSync(join(this.home, 'robot.json'), 'utf8')) as { cert: string }
    const { key } = JSON.parse(cert) as { key: string }
    return execFileSync('ssh-keygen', ['-lf', '-'], { input: key }).toString().split(' ')[1] ?? ''
  }

  /** The code that the log shows last; null: it shows none. */
  get code(): string | null {
    const found = [...this.log.matchAll(/pairing code of [^:]*: (\d{4}) (\d{4});/g)].at(-1)
    return found === undefined ? null : `${found[1]}${found[2]}`
  }
}

/** Runs a command with this text on its stdin. */
async function typed(text: string, ...args: string[]): Promise<Ended> {
  return typedOn(laptop, text, args)
}

async function typedOn({ dir }: Laptop, text: string, args: readonly string[]): Promise<Ended> {
  const { PATH, MEDULLA_TIME_SCALE: scale } = process.env
  const env = { PATH, HOME: dir, MEDULLA_CONFIG: join(dir, 'config'), ...(scale && { MEDULLA_TIME_SCALE: scale }) }
  const child = spawn(process.execPath, [CLI, ...args], { cwd: dir, env, stdio: ['pipe', 'pipe', 'pipe'] })
  let [stdout, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (more: string) => {
    stdout += more
  })
  child.stderr.setEncoding('utf8').on('data', (more: string) => {
    stderr += more
  })
  child.stdin.on('error', () => {}).end(text)
  const [status] = (await once(child, 'close')) as [number | null]
  return { status, stdout, stderr }
}

const wrong = (code: string | null): string => String((Number(code) + 1) % 10 ** 8).padStart(8, '0')
const known = (): string => {
  const file = join(laptop.dir, 'config/robots.json')
  return existsSync(file) ? readFileSync(file, 'utf8') : ''
}

test('a code on the command line, what is no code, and a wrong code are refused, and nothing is stored', async () => {
  const code = rover.code ?? ''
  expect(code).toMatch(/^\d{8}$/)
  expect(readFileSync(rover.codeFile, 'utf8')).toContain(`pairing code of rover: ${code.slice(0, 4)} ${code.slice(4)}`)
  const given = await laptop.run('pair', rover.address, code)
  expect(given).toMatchObject({ status: 2, stderr: expect.stringContaining('a code on the command line is refused') })
  expect(given.stderr).not.toContain(code)
  const letters = await typed('1234 567x', 'pair', rover.address)
  expect(letters).toMatchObject({ status: 2, stderr: expect.stringContaining('a pairing code has 8 digits') })
  const { status, stderr } = await typed(wrong(code), 'pair', rover.address)
  expect(status).toBe(3)
  expect(stderr).toContain(`${rover.address} calls itself rover (${rover.id})`)
  expect(stderr).toContain('the code is wrong; 2 tries are left')
  expect(stderr).toContain(`check address and code, then: medulla pair ${rover.address}`)
  expect(stderr).not.toContain(wrong(code))
  expect(known()).toBe('')
})

test('the right code makes the first owner, pins the robot, and closes the window; no output or process has the code', async () => {
  const code = rover.code ?? ''
  const { status, stdout, stderr } = await typed(`${code.slice(0, 4)} ${code.slice(4)}\n`, 'pair', rover.address)
  expect(status, stderr).toBe(0)
  expect(stdout).toMatch(/^rover is SHA256:\S+ at 127\.0\.0\.1:\d+\nyou are \S+ there, owner of this robot\n/)
  // once, for the first owner: what to write on paper
  expect(stdout).toMatch(/^The recovery key of rover, which is shown only now[\s\S]+^ {4}\S+(?: \S+)* *$/m)
  expect(stderr).toContain('medulla: hint: medulla status -d rover')
  for (const form of [code, `${code.slice(0, 4)} ${code.slice(4)}`]) expect(stdout + stderr).not.toContain(form)
  expect(known()).toContain(rover.address)
  expect((await laptop.run('status')).stdout).toContain(rover.id)
  expect((await laptop.run('operators')).stdout).toContain('owner')
  await eventually(() => !existsSync(rover.codeFile) && !existsSync(join(rover.home, 'operators/pairing.json')))
  const { events } = await laptop.json('receipts')
  expect(JSON.stringify(events)).toContain('owner, by a pairing code')
  // outside a window: what to type on the robot
  const late = await typedOn(second, code, ['pair', rover.address])
  expect(late.status).toBe(3)
  expect(late.stderr).toContain('its pairing window is closed')
  expect(late.stderr).toContain('on the robot: sudo medulla pair --allow')
})

test('on the robot, --allow opens a window, which status and doctor name; --role says what the next person is', async () => {
  const allowed = await laptop.json('pair', '--allow', '--home', rover.home, '--role', 'observer')
  expect(allowed.status, allowed.stderr).toBe(0)
  const [shown] = allowed.events as { code: string; until: string }[]
  expect(shown?.code).toBe(await eventually(() => rover.code))
  const status = await laptop.run('status')
  expect(status.stdout).toContain(`pairing window open until ${shown?.until}, for 3 tries`)
  expect(status.stdout).not.toContain(shown?.code)
  const doctor = await laptop.run('doctor', '--home', rover.home)
  expect(doctor.stdout).toMatch(/^warning +pairing +a pairing window is open until /m)
  expect(doctor.stdout).not.toContain(shown?.code)
  const paired = await typedOn(second, shown?.code ?? '', ['pair', rover.address, '--name', 'theirs'])
  expect(paired.stdout, paired.stderr).toMatch(/^theirs is .*\nyou are \S+-2 there, observer of this robot\n$/)
  expect((await second.run('status', '-d', 'theirs')).status).toBe(0)
  expect((await laptop.run('status')).stdout).not.toContain('pairing window')
  const nobody = await laptop.run('pair', '--allow', '--role', 'king')
  expect(nobody).toMatchObject({ status: 2, stderr: expect.stringContaining('expected a role of') })
})

test('CHANNEL 9.3: without an owner the next start shows the code again; with one, no start does, and --allow needs a runtime', async () => {
  const fresh = await Rover.start('fresh')
  const { code } = fresh
  await fresh.end()
  // the robot is off, and a person reads the code from its card
  expect(readFileSync(fresh.codeFile, 'utf8')).toContain(`${code?.slice(0, 4)} ${code?.slice(4)}`)
  await fresh.begin()
  expect(fresh.code).toBe(code)
  await fresh.end()
  const away = await laptop.run('pair', '--allow', '--home', fresh.home)
  expect(away).toMatchObject({ status: 3, stderr: expect.stringContaining('no runtime uses this home') })
  await rover.end()
  await rover.begin()
  expect(rover.code).toBe(null)
  expect((await laptop.run('status', '-d', 'rover')).stdout).not.toContain('pairing window')
})

test('CHANNEL 9.9: a robot with other keys under a known name or address is refused before the code is asked for', async () => {
  await rover.end()
  const other = await Rover.start('rover', undefined, rover.port)
  const before = known()
  const refused = await typed(other.code ?? '', 'pair', other.address)
  expect(refused.status).toBe(3)
  for (const id of [rover.id, other.id]) expect(refused.stderr).toContain(id)
  expect(refused.stderr).toContain(`medulla pair ${other.address} --replace`)
  expect(refused.stderr).not.toContain('pairing code')
  expect(known()).toBe(before)
  const named = await typed(other.code ?? '', 'pair', other.address, '--name', 'another')
  expect(named).toMatchObject({ status: 3, stderr: expect.stringContaining('--name another --replace') })
  const replaced = await typed(other.code ?? '', 'pair', other.address, '--replace')
  expect(replaced.status, replaced.stderr).toBe(0)
  expect((await laptop.run('status', '-d', 'rover')).stdout).toContain(other.id)
})

test('CHANNEL 9.4: with a pre-shared key the code alone is not enough, and neither secret is in any process or output', async () => {
  const psk = randomBytes(32).toString('hex')
  const strict = await Rover.start('strict', psk)
  const code = strict.code ?? ''
  const without = await typed(code, 'pair', strict.address)
  expect(without).toMatchObject({ status: 3, stderr: expect.stringContaining('--psk FILE') })
  const file = join(laptop.dir, 'strict.key')
  writeFileSync(file, randomBytes(32).toString('hex'), { mode: 0o600 })
  const another = await typed(code, 'pair', strict.address, '--psk', file)
  expect(another).toMatchObject({ status: 3, stderr: expect.stringContaining('the same pre-shared key') })
  writeFileSync(file, `${psk}\n`)
  const paired = await typed(code, 'pair', strict.address, '--psk', file)
  expect(paired.status, paired.stderr).toBe(0)
  expect((await laptop.run('status', '-d', 'strict')).stdout).toContain(strict.id)
  const shown = execFileSync('ps', ['axeww', '-o', 'args'], { maxBuffer: 64 * 1024 * 1024 }).toString()
  for (const text of [shown, ...[without, another, paired].map((each) => JSON.stringify(each))]) {
    expect(text).not.toContain(psk)
    expect(text).not.toContain(code)
  }
})
