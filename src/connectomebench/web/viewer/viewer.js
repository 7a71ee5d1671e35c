// The one 3D viewer of this package: scene files (rendering/scene_file.py) as the views of a site show them.
//
//   import { openViewer } from "./viewer.js";
//   const viewer = openViewer(element);          // element gets a canvas and a toolbar
//   await viewer.show({ scene: "scene.glb", planes: { em_xy: "em_xy.png" } });
//   viewer.look("side"); viewer.dispose();
//
// Same cube, cameras, colours and light as rendering/camera.py and rendering/colours.py: before anything is turned, the
// canvas shows the picture `front`. Drawn with three.js (MIT, in this folder); nothing is asked of another server.
import * as THREE from "./three.module.min.js";
import { TrackballControls } from "./TrackballControls.js";

// looking direction and up, world axes x, y, z; rendering/camera.py gives right, down, forward
const CAMERAS = {
  front: { forward: [0, 0, 1], up: [0, -1, 0] },
  side: { forward: [1, 0, 0], up: [0, 0, -1] },
  top: { forward: [0, -1, 0], up: [0, 0, -1] },
};
// columns and rows of the slices of image data
const PLANES = {
  em_xy: { right: [1, 0, 0], down: [0, 1, 0], name: "xy" },
  em_xz: { right: [1, 0, 0], down: [0, 0, 1], name: "xz" },
  em_yz: { right: [0, 1, 0], down: [0, 0, 1], name: "yz" },
};
const AMBIENT = 0.22, DIFFUSE = 0.78, CUT_WHITE = 0.35;
const LIGHT = [-0.4, 0.5, 1.0]; // right, up, towards the viewer
const NAMES = { base: "segment", candidate: "candidate", source: "one side", sink: "other side" };

const VERTEX = `
  varying vec3 place;
  varying vec3 direction;
  uniform mat4 toCube;
  void main() {
    place = (toCube * vec4(position, 1.0)).xyz;
    direction = mat3(viewMatrix) * normal; // stored as they are in the world
    gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0);
  }`;
const FRAGMENT = `
  uniform vec3 colour; // linear light
  uniform vec3 cut;    // sRGB
  uniform vec3 light;
  varying vec3 place;
  varying vec3 direction;
  vec3 toScreen(vec3 c) {
    return mix(c * 12.92, 1.055 * pow(max(c, vec3(0.0)), vec3(1.0 / 2.4)) - 0.055, step(0.0031308, c));
  }
  void main() {
    if (any(greaterThan(abs(place), vec3(1.0)))) discard;
    float cosine = max(dot(normalize(direction), light), 0.0);
    gl_FragColor = gl_FrontFacing
      ? vec4(toScreen((${AMBIENT} + ${DIFFUSE} * cosine) * colour), 1.0)
      : vec4(cut, 1.0);
  }`;

// Read a .glb as rendering/scene_file.py writes it.
export function readScene(buffer) {
  const view = new DataView(buffer);
  if (view.getUint32(0, true) !== 0x46546c67) throw new Error("this is no scene file");
  const length = view.getUint32(12, true);
  const content = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 20, length)));
  const start = 28 + length;
  const types = { 5120: [Int8Array, 1], 5123: [Uint16Array, 2], 5125: [Uint32Array, 4] };
  const read = (number) => {
    const accessor = content.accessors[number];
    const slice = content.bufferViews[accessor.bufferView];
    const [Kind, bytes] = types[accessor.componentType];
    return new Kind(buffer.slice(start + slice.byteOffset, start + slice.byteOffset + slice.byteLength), 0, slice.byteLength / bytes);
  };
  const parts = content.nodes.map((node) => {
    const part = { name: node.name.replace(/^hidden /, ""), hidden: node.name.startsWith("hidden "), segment: node.extras.segment_id, geometry: null, colour: [0.5, 0.5, 0.5] };
    if (node.mesh === undefined) return part;
    const primitive = content.meshes[node.mesh].primitives[0];
    const geometry = new THREE.BufferGeometry();
    // vectors of three in steps of four
    const attribute = (name) => new THREE.InterleavedBufferAttribute(
      new THREE.InterleavedBuffer(read(primitive.attributes[name]), 4), 3, 0, Boolean(content.accessors[primitive.attributes[name]].normalized));
    geometry.setAttribute("position", attribute("POSITION"));
    geometry.setAttribute("normal", attribute("NORMAL"));
    geometry.setIndex(new THREE.BufferAttribute(read(primitive.indices), 1));
    return { ...part, geometry, colour: content.materials[primitive.material].pbrMetallicRoughness.baseColorFactor.slice(0, 3), translation: node.translation, scale: node.scale };
  });
  return { parts, ...content.asset.extras };
}

function toScreen(c) { return c <= 0.0031308 ? c * 12.92 : 1.055 * c ** (1 / 2.4) - 0.055; }

function meshOf(part, half) {
  const matrix = new THREE.Matrix4().compose(
    new THREE.Vector3(...part.translation).divideScalar(half), new THREE.Quaternion(), new THREE.Vector3(...part.scale).divideScalar(half));
  const screen = part.colour.map(toScreen);
  const material = new THREE.ShaderMaterial({
    vertexShader: VERTEX, fragmentShader: FRAGMENT, side: THREE.DoubleSide,
    uniforms: {
      toCube: { value: matrix },
      colour: { value: new THREE.Vector3(...part.colour) },
      cut: { value: new THREE.Vector3(...screen.map((c) => c + CUT_WHITE * (1 - c))) },
      light: { value: new THREE.Vector3(...LIGHT).normalize() },
    },
  });
  const mesh = new THREE.Mesh(part.geometry, material);
  mesh.matrixAutoUpdate = false;
  mesh.matrix.copy(matrix);
  mesh.frustumCulled = false;
  return mesh;
}

async function planeOf(name, url) {
  const { right, down } = PLANES[name];
  const texture = await new THREE.TextureLoader().loadAsync(url);
  // grey values as they are in the picture
  texture.colorSpace = THREE.NoColorSpace;
  const geometry = new THREE.BufferGeometry();
  const corner = (u, v) => [0, 1, 2].map((i) => (2 * u - 1) * right[i] + (2 * v - 1) * down[i]);
  geometry.setAttribute("position", new THREE.Float32BufferAttribute([corner(0, 0), corner(1, 0), corner(1, 1), corner(0, 1)].flat(), 3));
  geometry.setAttribute("uv", new THREE.Float32BufferAttribute([0, 1, 1, 1, 1, 0, 0, 0], 2));
  geometry.setIndex([0, 1, 2, 0, 2, 3]);
  const material = new THREE.ShaderMaterial({
    vertexShader: "varying vec2 at; void main() { at = uv; gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0); }",
    fragmentShader: "uniform sampler2D picture; varying vec2 at; void main() { gl_FragColor = vec4(texture2D(picture, at).rgb, 1.0); }",
    side: THREE.DoubleSide, uniforms: { picture: { value: texture } },
  });
  return new THREE.Mesh(geometry, material);
}

function frameOfCube() {
  const edges = new THREE.EdgesGeometry(new THREE.BoxGeometry(2, 2, 2));
  return new THREE.LineSegments(edges, new THREE.LineBasicMaterial({ color: 0xb8bcc4 }));
}

function free(object) {
  object.traverse?.((one) => {
    one.geometry?.dispose();
    one.material?.uniforms?.picture?.value.dispose();
    one.material?.dispose();
  });
}

/**
 * Open a viewer in an element.
 *
 * @param {HTMLElement} element - Emptied; its size is that of the viewer.
 * @returns {{show: Function, look: Function, toggle: Function, dispose: Function, state: Function}}
 *   `show({scene, planes})` loads a scene (address or ArrayBuffer) and, by name of the slice, pictures of image data;
 *   `look("front" | "side" | "top")` turns to a view; `toggle(i)` hides or shows part i; `state()` is for tests.
 */
export function openViewer(element) {
  element.classList.add("viewer");
  element.replaceChildren();
  const canvas = document.createElement("canvas");
  const bar = document.createElement("div");
  bar.className = "viewer-bar";
  const note = document.createElement("p");
  note.className = "viewer-note";
  element.append(canvas, note, bar);
  let renderer;
  try {
    renderer = new THREE.WebGLRenderer({ canvas, antialias: true, preserveDrawingBuffer: true });
  } catch {
    note.textContent = "This browser has no WebGL, so there is no 3D view; the pictures show the same.";
    canvas.remove();
    const nothing = () => undefined;
    return { show: async () => undefined, look: nothing, toggle: nothing, dispose: nothing, state: () => ({ webgl: false }) };
  }
  renderer.setClearColor(0xffffff, 1);
  renderer.outputColorSpace = THREE.LinearSRGBColorSpace; // the shaders write sRGB themselves
  const world = new THREE.Scene();
  const camera = new THREE.OrthographicCamera(-1, 1, 1, -1, 0.01, 20);
  const controls = new TrackballControls(camera, canvas);
  controls.staticMoving = true;
  controls.rotateSpeed = 2;
  controls.minZoom = 0.5;
  controls.maxZoom = 20;
  canvas.setAttribute("role", "img");
  canvas.tabIndex = 0;
  let content = null, parts = [], planes = [], current = "", waiting = false, number = 0;

  function draw() {
    waiting = false;
    controls.update();
    renderer.render(world, camera);
    canvas.dataset.view = current;
  }
  function request() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(draw);
  }
  function resize() {
    const width = Math.max(1, canvas.clientWidth), height = Math.max(1, canvas.clientHeight);
    renderer.setPixelRatio(Math.min(2, window.devicePixelRatio || 1));
    renderer.setSize(width, height, false);
    // the cube fills the shorter side, as it fills a picture
    const x = Math.max(1, width / height), y = Math.max(1, height / width);
    Object.assign(camera, { left: -x, right: x, top: y, bottom: -y });
    camera.updateProjectionMatrix();
    controls.handleResize();
    request();
  }
  function look(name) {
    const { forward, up } = CAMERAS[name];
    controls.reset();
    controls.target.set(0, 0, 0);
    camera.zoom = 1;
    camera.up.set(...up);
    camera.position.set(...forward.map((v) => -8 * v));
    camera.lookAt(0, 0, 0);
    camera.updateProjectionMatrix();
    current = name;
    mark();
    request();
  }
  function toggle(i) {
    if (!parts[i]?.mesh) return;
    parts[i].mesh.visible = !parts[i].mesh.visible;
    mark();
    request();
  }
  function togglePlanes() {
    const on = !planes.some((one) => one.visible);
    for (const plane of planes) plane.visible = on;
    mark();
    request();
  }
  function button(text, title, then) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    made.title = title;
    made.onclick = then;
    bar.append(made);
    return made;
  }
  let buttons = [];
  function fillBar() {
    bar.replaceChildren();
    buttons = Object.keys(CAMERAS).map((name) => [button(name, `look from the ${name}, as the picture does`, () => look(name)), () => current === name]);
    parts.forEach((part, i) => {
      const made = button(NAMES[part.name] ?? part.name, `show or hide ${part.name} ${part.segment}`, () => toggle(i));
      const swatch = document.createElement("i");
      swatch.style.background = `rgb(${part.colour.map((c) => Math.round(255 * toScreen(c))).join(" ")})`;
      made.prepend(swatch);
      made.disabled = !part.mesh;
      buttons.push([made, () => Boolean(part.mesh?.visible)]);
    });
    if (planes.length) buttons.push([button("slices", "show or hide the slices of image data", togglePlanes), () => planes.some((one) => one.visible)]);
    mark();
  }
  function mark() {
    for (const [made, on] of buttons) made.setAttribute("aria-pressed", String(on()));
  }

  async function show({ scene, planes: pictures = {} }) {
    const own = ++number;
    let buffer = scene;
    if (!(scene instanceof ArrayBuffer)) {
      const reply = await fetch(scene);
      if (!reply.ok) { note.textContent = "There is no 3D scene of this place."; canvas.hidden = true; bar.replaceChildren(); return; }
      buffer = await reply.arrayBuffer();
    }
    const slices = await Promise.all(Object.entries(pictures).filter(([name]) => PLANES[name]).map(([name, url]) => planeOf(name, url)));
    if (own !== number) return; // another scene was asked for meanwhile
    if (content) { world.remove(content); free(content); }
    const found = readScene(buffer);
    content = new THREE.Group();
    content.add(frameOfCube());
    parts = found.parts.map((part) => ({ ...part, mesh: part.geometry && meshOf(part, found.extent_nm / 2) }));
    parts.forEach((part) => {
      if (!part.mesh) return;
      part.mesh.visible = !part.hidden;
      content.add(part.mesh);
    });
    planes = slices;
    planes.forEach((plane) => { plane.visible = false; content.add(plane); });
    world.add(content);
    canvas.hidden = false;
    note.textContent = "";
    canvas.setAttribute("aria-label", `3D view of ${parts.map((part) => NAMES[part.name] ?? part.name).join(" and ")}; drag to turn, wheel or pinch to zoom`);
    fillBar();
    resize();
    look("front");
  }

  controls.addEventListener("start", () => { current = ""; mark(); });
  controls.addEventListener("change", request);
  // trackball controls move in update(), which nothing else calls while a finger moves
  for (const name of ["pointermove", "wheel", "pointerup"]) canvas.addEventListener(name, request, { passive: true });
  const watcher = new ResizeObserver(resize);
  watcher.observe(element);
  return {
    show, look, toggle,
    dispose() {
      number += 1;
      watcher.disconnect();
      controls.dispose();
      if (content) free(content);
      renderer.dispose();
      element.replaceChildren();
    },
    state: () => ({ webgl: true, view: current, parts: parts.map((part) => ({ name: part.name, segment: part.segment, visible: Boolean(part.mesh?.visible), faces: part.geometry ? part.geometry.index.count / 3 : 0 })), planes: planes.length, position: camera.position.toArray(), zoom: camera.zoom }),
  };
}
