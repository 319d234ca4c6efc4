// Answers each message of the channel `tune` with its number, and counts upwards on the channel `count`, both over swaps.
// Two versions fail their trial once they have taken messages: 8.1.0 is unhealthy and gives its state back, 8.2.0 dies. 8.3.0 dies
// of the message 'bad'. 7.0.0 never closes a connection.
import { Socket } from 'node:net'
import { robot } from 'medulla'

robot({
  needs: { led: 'output' },
  state: { version: 1, initial: () => ({ heard: 0, counted: 0, unsent: [] as unknown[] }) },
  run({ led, state, every, channel, health, info, log }) {
    const tune = channel('tune')
    if (info.why === 'rehearsal' && (tune.isOpen || tune.send('rehearsed'))) throw new Error('the channel acts')
    if (info.version === '7.0.0') Socket.prototype.destroy = function (this: Socket) { return this } // biome-ignore format: one line
    let isHeld = false
    // what the laptop has no room for waits in the state, and so does what the laptop sends meanwhile
    const answer = () => {
      while (state.unsent.length > 0 && tune.send(state.unsent[0])) state.unsent.shift()
      if (state.unsent.length > 0 || isHeld) tune.pause()
      else tune.resume()
    }
    tune.on('room', answer)
    tune.on('message', (message) => {
      state.heard += 1
      if (message === 'die' || (message === 'bad' && info.version === '8.3.0')) process.exit(3)
      if (message instanceof Uint8Array && message.length > 1000) {
        if (!tune.send(message)) log('not taken', 'error')
        return
      }
      if (message === 'pause') isHeld = true
      else state.unsent.push({ heard: message, n: state.heard, bytes: message instanceof Uint8Array })
      answer()
    })
    tune.on('open', () => log(`tune opened, ${info.why}`))
    tune.on('close', () => log('tune closed'))
    channel('go').on('message', () => {
      isHeld = false
      answer()
    })
    const count = channel('count')
    const enough = state.heard + 50
    health(() => info.version !== '8.1.0' || state.heard < enough || 'heard enough')
    every(2, () => {
      if (info.version === '8.2.0' && state.heard >= enough) throw new Error('heard enough')
      led.write(state.heard % 2 === 1)
      if (count.send(state.counted + 1)) state.counted += 1
    })
  },
})
