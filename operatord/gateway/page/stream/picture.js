// SPDX-License-Identifier: MIT
// Draws frames on a canvas: grey levels, and over them the mask as a tint with an outline.

const ORANGE = [230, 159, 0]; // of Okabe and Ito: told from grey, and from each other, by whoever sees few colours
const isLittleEndian = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

const pixel = isLittleEndian ? (r, g, b) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0 : (r, g, b) => ((r << 24) | (g << 16) | (b << 8) | 255) >>> 0;

const GREYS = Uint32Array.from({ length: 256 }, (_, level) => pixel(level, level, level));
const OUTLINE = pixel(...ORANGE);

export class Picture {
  #context;
  #image = null;
  #pixels = null;
  #tints = GREYS;
  #opacity = -1;

  constructor(canvas) {
    this.canvas = canvas;
    this.#context = canvas.getContext("2d", { alpha: false });
  }

  /** Draw a frame of so many pixels; `mask` is left out for none, `opacity` is that of its tint, from 0 to 1. */
  draw(width, height, image, mask, opacity) {
    this.#resize(width, height);
    if (mask) {
      this.#tint(opacity);
      this.#both(image, mask, width);
    } else {
      for (let i = 0; i < image.length; i += 1) this.#pixels[i] = GREYS[image[i]];
    }
    this.#context.putImageData(this.#image, 0, 0);
  }

  #resize(width, height) {
    if (this.#image?.width === width && this.#image.height === height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.#image = this.#context.createImageData(width, height);
    this.#pixels = new Uint32Array(this.#image.data.buffer);
  }

  #tint(opacity) {
    if (opacity === this.#opacity) return;
    this.#opacity = opacity;
    const mixed = (level, i) => Math.round(level * (1 - opacity) + ORANGE[i] * opacity);
    this.#tints = Uint32Array.from({ length: 256 }, (_, level) => pixel(mixed(level, 0), mixed(level, 1), mixed(level, 2)));
  }

  /** A pixel of the mask with a neighbour that is none is part of its outline. */
  #both(image, mask, width) {
    const [pixels, tints] = [this.#pixels, this.#tints];
    for (let i = 0; i < image.length; i += 1) {
      if (!mask[i]) pixels[i] = GREYS[image[i]];
      else if (mask[i - 1] && mask[i + 1] && mask[i - width] && mask[i + width]) pixels[i] = tints[image[i]];
      else pixels[i] = OUTLINE;
    }
  }
}
