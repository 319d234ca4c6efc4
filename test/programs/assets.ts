// Reads the files that came with it, and gives work to a thread.
import { readFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { robot } from 'medulla'

robot({ led: 'output' }, ({ led, every, log }) => {
  const read = (url: URL) => readFileSync(url, 'utf8')
  const page = read(new URL('./assets/page.html', import.meta.url))
  const horn = read(new URL('./assets/horn.wav', import.meta.url))
  const worker = new Worker(new URL('./assets/work.ts', import.meta.url))
  worker.on('message', (sum: number) => log(`assets: ${page} ${horn} worker says ${sum}`))
  worker.postMessage([20, 22])
  every(100, () => led.write(!led.value))
})
