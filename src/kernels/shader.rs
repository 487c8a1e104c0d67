//! Shaders as data: what the build script made of `shaders/`, and the check that a Rust parameter struct has the
//! layout of the WGSL one.

/// One permutation of one shader, ready for the device.
#[derive(Debug)]
pub struct Shader {
    /// Family and file, e.g. `linear/matmul_nt`.
    pub name: &'static str,
    /// The permutation, e.g. `ELEMENT=f32,TILE=64`; empty where the shader has none.
    pub variant: &'static str,
    /// Expanded WGSL.
    pub source: &'static str,
    /// What a device must offer beyond the portable floor: `f16`, `subgroups`, `matrices8`, `matrices16`.
    pub features: &'static [&'static str],
    /// Whether the storage buffer at binding 1, 2, ... is written.
    pub writes: &'static [bool],
    /// Bytes of the uniform `Params`.
    pub params_size: u32,
    /// Invocations per workgroup in x, y, z.
    pub workgroup_size: [u32; 3],
}

impl Shader {
    /// The permutation `variant` of the shader `name`.
    pub fn find(name: &str, variant: &str) -> Option<&'static Shader> {
        SHADERS.iter().find(|shader| shader.name == name && shader.variant == variant)
    }
}

/// Size and members of a parameter struct.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) size: usize,
    pub(crate) fields: &'static [(&'static str, usize)],
}

impl Layout {
    /// Fails the compilation when a Rust struct (size, members with offsets) differs from the reflected layout.
    pub(crate) const fn check(&self, size: usize, fields: &[(&str, usize)]) {
        assert!(self.size == size, "the parameter struct's size differs from the shader's");
        assert!(
            self.fields.len() == fields.len(),
            "the parameter struct has another number of members than the shader's"
        );
        let mut i = 0;
        while i < fields.len() {
            assert!(
                self.fields[i].1 == fields[i].1,
                "a member of the parameter struct has another offset in the shader"
            );
            let (ours, theirs) = (fields[i].0.as_bytes(), self.fields[i].0.as_bytes());
            assert!(ours.len() == theirs.len(), "a member of the parameter struct has another name in the shader");
            let mut c = 0;
            while c < ours.len() {
                assert!(ours[c] == theirs[c], "a member of the parameter struct has another name in the shader");
                c += 1;
            }
            i += 1;
        }
    }
}

/// Declares a kernel's parameters and checks them, at compile time, against the shader's `Params`.
macro_rules! kernel_params {
    ($(#[$meta:meta])* $name:ident = $layout:ident { $($(#[$doc:meta])* $field:ident: $ty:ty),+ $(,)? }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
        pub struct $name { $($(#[$doc])* pub $field: $ty),+ }
        const _: () = $crate::kernels::shader::layouts::$layout.check(
            size_of::<$name>(),
            &[$((stringify!($field), std::mem::offset_of!($name, $field))),+],
        );
    };
}
pub(crate) use kernel_params;

include!(concat!(env!("OUT_DIR"), "/shaders.rs"));
