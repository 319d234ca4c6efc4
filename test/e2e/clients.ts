/** Clients of a program's servers, as a test counts what happened to them. */

import { once } from 'node:events'
import { type Agent, request } from 'node:http'
import { connect, createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/** The first of `count` ports that nobody has at the moment, and that the kernel gives to nobody by itself. */
export async function freePort(count = 1): Promise<number> {
  // test files run beside each other, in processes with numbers that follow each other
  let port = 18_000 + ((process.pid * 8) % 8000)
  for (let free = 0; free < count; port++) free = (await isFree(port)) ? free + 1 : 0
  return port - count
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer()
  const free = await new Promise<boolean>((resolve) => {
    server.once('error', () => resolve(false)).listen(port, () => resolve(true))
  })
  if (free) await new Promise((resolve) => server.close(resolve))
  return free
}

export type Where = { port: number } | { socketPath: string }

/** One request on a connection of its own, or on that of the agent: its answer, or the code of its failure. */
export function ask(where: Where, path = '/', agent: Agent | false = false): Promise<{ text: string; close: boolean }> {
  return new Promise((resolve, reject) => {
    const to = 'port' in where ? { host: '127.0.0.1', ...where } : where
    request({ ...to, path, agent }, (answer) => {
      let text = ''
      answer.setEncoding('utf8').on('data', (part: string) => {
        text += part
      })
      answer.on('end', () => resolve({ text, close: answer.headers.connection === 'close' }))
      answer.on('error', reject)
    })
      .on('error', reject)
      .end()
  })
}

/** Connects and asks again and again, on a new connection each time, until it is stopped. */
export class Visitor {
  readonly answers = new Map<string, number>()
  readonly failures: string[] = []
  #on = true
  readonly #done: Promise<void>

  constructor(where: Where, path = '/') {
    this.#done = this.#visit(where, path)
  }

  async stop(): Promise<void> {
    this.#on = false
    await this.#done
  }

  async #visit(where: Where, path: string): Promise<void> {
    while (this.#on) {
      const asked = performance.now()
      try {
        const { text } = await ask(where, path)
        this.answers.set(text, (this.answers.get(text) ?? 0) + 1)
      } catch (error) {
        const after = `after ${(performance.now() - asked).toFixed(1)} ms`
        this.failures.push(`${(error as Error).message} ${after}`)
      }
      await sleep(0)
    }
  }
}

/** A connection that asks once and stays; how it ended, and with which error. */
export async function keptAlive(port: number, path = '/'): Promise<{ socket: Socket; ended: Promise<string> }> {
  const socket = connect({ host: '127.0.0.1', port })
  let how = 'closed'
  socket.on('end', () => {
    how = 'end'
  })
  socket.on('error', (error: NodeJS.ErrnoException) => {
    how = error.code ?? 'error'
  })
  const ended = once(socket, 'close').then(() => how)
  await once(socket, 'connect')
  socket.write(`GET ${path} HTTP/1.1\r\nHost: robot\r\n\r\n`)
  await once(socket, 'data')
  return { socket, ended }
}
