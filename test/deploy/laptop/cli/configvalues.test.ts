/** `medulla config` of the built CLI. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from '../../../e2e/eventually.ts'
import { CLI, Laptop } from './medulla.ts'

const SECRET = 'a-token-that-nobody-sees'

let laptop: Laptop

beforeAll(async () => {
  laptop = new Laptop()
  await laptop.sim({ model: 'sim', handles: { led: { kind: 'output', line: 'GPIO17', safe: 0 } } })
  mkdirSync(join(laptop.dir, 'link'))
  writeFileSync(
    join(laptop.dir, 'link/program.ts'),
    `import { robot } from 'medulla'
robot({
  needs: { led: 'output' },
  config: ['MQTT_URL', 'TOKEN'],
  run: ({ config, log }) => log(\`\${config.MQTT_URL} \${config.TOKEN.length}\`),
})
`,
  )
})
afterAll(() => laptop?.close())

/** Runs the CLI with a text on stdin. */
async function piped(input: string, ...args: string[]) {
  const file = join(laptop.dir, 'input')
  writeFileSync(file, input)
  const shell = laptop.inTerminal(
    `${process.execPath} ${CLI} ${args.join(' ')} < ${file} > ${file}.out 2> ${file}.err; echo $? > ${file}.status`,
  )
  await shell.ended
  const [stdout, stderr, status] = ['out', 'err', 'status'].map((end) => readFileSync(`${file}.${end}`, 'utf8'))
  return { status: Number(status), stdout, stderr }
}

test('a push of a program with missing values exits 3, with commands that set all of them as hint', async () => {
  expect(await laptop.run('config')).toMatchObject({
    status: 0,
    stdout: 'no config value is set, and no program needs one: medulla config set NAME\n',
  })
  const { status, stderr } = await laptop.run('push', 'link', '--types', 'off')
  expect(status).toBe(3)
  expect(stderr).toContain('refused: program needs MQTT_URL, TOKEN, which are not set on this robot')
  expect(stderr).toContain('medulla: hint: medulla config set MQTT_URL && medulla config set TOKEN\n')
})

test('config set reads a value from a pipe, without its last newline, or from the terminal without echo', async () => {
  expect(await piped('mqtt://10.0.0.2\n', 'config', 'set', 'MQTT_URL')).toEqual({
    status: 0,
    stdout: 'MQTT_URL is set; programs see it from their next start or swap\n',
    stderr: '',
  })
  const terminal = laptop.inTerminal(`${process.execPath} ${CLI} config set TOKEN; echo "exit $?"`)
  await eventually(() => terminal.text().includes('value of TOKEN (not shown): '))
  terminal.type(`nonsense\x15x\x7f\x1b[D${SECRET}\r`)
  await terminal.ended
  expect(terminal.text()).toContain('TOKEN is set')
  expect(terminal.text()).toContain('exit 0')
  expect(terminal.text()).not.toContain(SECRET)
  const pushed = await laptop.run('push', 'link', '--types', 'off')
  expect(pushed.status, pushed.stderr).toBe(0)
  const { stdout } = await laptop.run('logs')
  expect(stdout).toContain(`[MQTT_URL] ${SECRET.length}`)
})

test('Ctrl-C at the prompt of config set changes nothing', async () => {
  const terminal = laptop.inTerminal(`${process.execPath} ${CLI} config set OTHER; echo "exit $?"`)
  await eventually(() => terminal.text().includes('not shown'))
  terminal.type('abc\x03')
  await terminal.ended
  expect(terminal.text()).toContain('exit 130')
  expect((await laptop.run('config')).stdout).not.toContain('OTHER')
})

test('config lists names, times and programs that need them, in 80 columns, and no value', async () => {
  const { stdout } = await laptop.run('config')
  expect(stdout).toMatch(/^name +set \(UTC\) +by +needed by$/m)
  expect(stdout).toMatch(/^MQTT_URL +\d\d-\d\d \d\d:\d\d:\d\d +\S+ +link 1?\.?\d*\.?\d+\.\d+ \(main\)$/m)
  expect(stdout.split('\n').filter((line) => line.length > 80)).toEqual([])
  expect(stdout).not.toMatch(/10\.0\.0\.2|a-token/)
  const { events } = await laptop.json('config')
  expect(events).toMatchObject([
    { event: 'config', name: 'MQTT_URL', time: expect.stringMatching(/Z$/), uses: [{ slot: 'main', program: 'link' }] },
    { event: 'config', name: 'TOKEN' },
  ])
})

test('config set and unset print the effect on the running program, and the next command', async () => {
  const { stderr } = await piped('mqtt://10.0.0.3', 'config', 'set', 'MQTT_URL')
  expect(stderr).toMatch(
    /^medulla: hint: link \S+ in slot main runs with what it was started with: push over it, or: medulla stop {3}then {3}medulla start\n$/,
  )
  const unset = await laptop.run('config', 'unset', 'TOKEN')
  expect(unset).toMatchObject({ status: 0, stdout: 'TOKEN is not set any more\n' })
  expect(unset.stderr).toContain('keeps the value until it ends, and is not started again without it')
  await laptop.run('stop')
  const start = await laptop.run('start')
  expect(start.status).toBe(3)
  expect(`${start.stdout}${start.stderr}`).toContain('program needs TOKEN, which is not set on this robot')
  expect((await laptop.run('config')).stdout).toMatch(/^TOKEN +not set +link /m)
  expect((await piped(SECRET, 'config', 'set', 'TOKEN')).stderr).toMatch(/medulla start {3}starts link /)
  expect((await laptop.run('start')).status).toBe(0)
  const again = await laptop.run('config', 'unset', 'NOBODY')
  expect(again).toMatchObject({ status: 3, stderr: expect.stringContaining('NOBODY is not set on this robot') })
})

test('a value on the command line is refused with a reason that does not repeat the value', async () => {
  for (const args of [['TOKEN', SECRET], [`TOKEN=${SECRET}`], [`${SECRET}=x`]]) {
    const { status, stdout, stderr } = await laptop.run('config', 'set', ...args)
    expect(status).toBe(2)
    expect(stderr).toContain('a value on the command line is refused: every process of this computer could read it')
    expect(stdout + stderr).not.toContain(SECRET)
  }
  expect((await laptop.run('config', 'set', 'TOKEN', SECRET)).stderr).toContain('medulla config set TOKEN < FILE')
})

test('wrong usage of a subcommand points to its own help, and no word is repeated that may be a value', async () => {
  for (const words of [['get'], ['list'], [`${SECRET}=x`], ['TOKEN', SECRET]]) {
    expect(await laptop.run('config', ...words)).toEqual({
      status: 2,
      stdout: '',
      stderr:
        'medulla: error: expected set or unset, or nothing for a list of the names; a robot never shows a value\n' +
        'medulla: hint: medulla config   lists the names; or: medulla config --help\n',
    })
  }
  for (const [sub, ...args] of [
    ['set'],
    ['set', 'token'],
    ['unset'],
    ['unset', 'token'],
    ['unset', 'A', 'B'],
  ] as const) {
    const { status, stderr } = await laptop.run('config', sub, ...args)
    expect([status, stderr]).toEqual([
      2,
      expect.stringMatching(new RegExp(`\\nmedulla: hint: medulla config ${sub} --help\\n$`)),
    ])
  }
})

test('bad values and bad names are refused on the laptop', async () => {
  for (const [input, says] of [
    ['', 'the value is empty'],
    ['\n', 'the value is empty'],
    ['x'.repeat(4097), 'the value has 4097 bytes, at most 4096 are allowed'],
    ['x'.repeat(9000), 'the value has more than 4096 bytes'],
    ['a\0b', 'the value contains a NUL byte'],
  ] as const) {
    const { status, stderr } = await piped(input, 'config', 'set', 'TOKEN')
    expect([status, stderr]).toEqual([2, expect.stringContaining(says)])
  }
  const { status, stderr } = await laptop.run('config', 'unset', 'token')
  expect([status, stderr]).toEqual([2, expect.stringContaining('expected a name of A-Z, 0-9 and _, like MQTT_URL')])
})

test('a scenario can give config values to its program', async () => {
  const scenario = { board: 'board.json', config: { MQTT_URL: 'mqtt://test', TOKEN: 'four' } }
  writeFileSync(join(laptop.dir, 'scenario.json'), JSON.stringify(scenario))
  const args = ['sim', 'link', '--expect', 'mqtt://test 4', '--timeout', '1s']
  expect(await laptop.run(...args, '--scenario', 'scenario.json')).toMatchObject({ status: 0 })
  const { status, stderr } = await laptop.run(...args, '--board', 'board.json')
  expect([status, stderr]).toEqual([3, expect.stringContaining('program needs MQTT_URL, TOKEN, which are not given')])
})
