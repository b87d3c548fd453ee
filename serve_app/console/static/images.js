// Pictures on their way from a disk into a request.

const LARGEST = 1536;
/** Pixels of the longer side: more than the models look at, and small enough to send. */

/** A data URL of an image file, made smaller where it is large. Throws for what the browser cannot read as an image. */
export async function dataUrl(file) {
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new Error(`${file.name} is no image that this browser reads`);
  });
  const scale = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
  if (scale === 1 && file.size < 2 ** 20 && ["image/png", "image/jpeg"].includes(file.type)) return asIs(file);
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(bitmap.width * scale);
  canvas.height = Math.round(bitmap.height * scale);
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL(file.type === "image/png" ? "image/png" : "image/jpeg", 0.92);
}

function asIs(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
