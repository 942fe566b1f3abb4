// Each strip alone as SVG and PNG, with title and conditions, for slides; print is the browser's.
const FILE_WIDTH = 1280, PNG_SCALE = 2;

const pictureOf = (model) => {
  const frame = frameOf(FILE_WIDTH - 40, false), one = strip(model, frame, state.view, true, 0), scale = axis(frame, state.view);
  const height = 74 + scale.height + one.height + 34;
  const content = `<rect width="${FILE_WIDTH}" height="${height}" fill="#fff"/>` +
    `<text x="20" y="32" font-size="20" font-weight="600" fill="${INK}">${escaped(DATA.scene.title)}: ${model.name}</text>` +
    `<text x="20" y="54" font-size="14" fill="${MUTED}">${escaped(DATA.scene.description)}</text>` +
    `<g transform="translate(20 66)">${scale.content}</g><g transform="translate(20 ${68 + scale.height})">${one.content}</g>` +
    `<text x="20" y="${height - 12}" font-size="12" fill="${MUTED}">${escaped(DATA.conditions)}</text>`;
  return asSvg({ height, defs: one.defs, content }, { width: FILE_WIDTH }, `${DATA.scene.title}: ${model.name}. ${model.sentence}`);
};

const download = (blob, name) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};

const saveSvg = (model) => download(new Blob([pictureOf(model)], { type: "image/svg+xml" }), `${DATA.scene.name}-${model.name}.svg`);

const savePng = async (model) => {
  const text = pictureOf(model), image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = image.width * PNG_SCALE;
  canvas.height = image.height * PNG_SCALE;
  const context = canvas.getContext("2d");
  context.scale(PNG_SCALE, PNG_SCALE);
  context.drawImage(image, 0, 0);
  canvas.toBlob((blob) => download(blob, `${DATA.scene.name}-${model.name}.png`), "image/png");
};
