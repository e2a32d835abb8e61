// Draws avatars as PNG files, STYLE/NUMBER.png; called by avatars.py: node avatars.mjs FOLDER PER_STYLE SIZE
import { createAvatar } from '@dicebear/core'
import * as styles from '@dicebear/collection'
import { Resvg } from '@resvg/resvg-js'
import fs from 'node:fs'

const [folder, perStyle, size] = process.argv.slice(2)
const chosen = ['bigEars', 'lorelei', 'micah', 'personas', 'pixelArt', 'toonHead']
const grounds = ['b6e3f4', 'c0aede', 'd1d4f9', 'ffd5dc', 'ffdfbf', 'c9e7cb']

for (const style of chosen) {
  fs.mkdirSync(`${folder}/${style}`, { recursive: true })
  for (let n = 0; n < perStyle; n++) {
    const seed = `${style}-${n}`
    const drawing = createAvatar(styles[style], { seed, backgroundColor: [grounds[n % grounds.length]] })
    const picture = new Resvg(drawing.toString(), { fitTo: { mode: 'width', value: +size } }).render()
    fs.writeFileSync(`${folder}/${style}/${String(n).padStart(4, '0')}.png`, picture.asPng())
  }
  console.log(`${style}: ${perStyle} drawn`)
}
