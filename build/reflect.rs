//! Parses and validates expanded WGSL with naga and reads off what the Rust side must agree with: bindings, the
//! layout of `Params`, the workgroup size. Also enforces the portable floor every default variant keeps.

use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, Module, StorageAccess, TypeInner};

use crate::preprocess::{Expanded, Failure};

/// The floor that every adapter of interest offers.
const MAX_INVOCATIONS: u32 = 256;
const MAX_WORKGROUP_BYTES: u32 = 32 * 1024;
const MAX_STORAGE_BUFFERS: usize = 8;

/// One member of `Params`: name and byte offset (every member takes 4 bytes).
pub struct Field {
    pub name: String,
    pub offset: u32,
}

/// What a shader's Rust side is checked against.
pub struct Reflection {
    /// Whether the storage buffer at binding 1, 2, ... is written.
    pub writes: Vec<bool>,
    pub fields: Vec<Field>,
    pub params_size: u32,
    pub workgroup_size: [u32; 3],
}

/// Validates one expanded shader and reflects it.
pub fn reflect(expanded: &Expanded) -> Result<Reflection, Failure> {
    let place = |line: usize| match expanded.origin.get(line.saturating_sub(1)) {
        Some((file, number)) => format!("shaders/{file}:{number}"),
        None => "end of shader".to_string(),
    };
    let module = naga::front::wgsl::parse_str(&expanded.text).map_err(|error| {
        let line = error.location(&expanded.text).map_or(0, |l| l.line_number as usize);
        format!("{}: {}", place(line), error.message())
    })?;
    let mut validator = Validator::new(ValidationFlags::all(), capabilities(expanded));
    validator.validate(&module).map_err(|error| {
        let line = error.location(&expanded.text).map_or(0, |l| l.line_number as usize);
        let mut message = error.to_string();
        let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error.as_inner());
        while let Some(inner) = cause {
            message = format!("{message}: {inner}");
            cause = inner.source();
        }
        format!("{}: {message}", place(line))
    })?;
    let main_file = expanded.origin.last().map_or("", |(file, _)| file.as_str());
    read_module(&module).map_err(|problem| format!("shaders/{main_file}:1: {problem}"))
}

/// What naga is to allow: the portable floor and what the permutation requires.
fn capabilities(expanded: &Expanded) -> Capabilities {
    let mut allowed = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    for feature in &expanded.features {
        allowed |= match *feature {
            "f16" => Capabilities::SHADER_FLOAT16,
            "subgroups" => Capabilities::SUBGROUP,
            _ => Capabilities::COOPERATIVE_MATRIX,
        };
    }
    allowed
}

fn read_module(module: &Module) -> Result<Reflection, String> {
    let [entry] = &module.entry_points[..] else { return Err("a shader has one entry point".into()) };
    let mut storage: Vec<(u32, bool)> = Vec::new();
    let mut params = None;
    let mut workgroup_bytes = 0;
    for (_, global) in module.global_variables.iter() {
        let inner = &module.types[global.ty].inner;
        match global.space {
            AddressSpace::Storage { access } => {
                let binding = global.binding.ok_or("a storage buffer without a binding")?;
                if binding.group != 0 {
                    return Err("all bindings are in group 0".into());
                }
                storage.push((binding.binding, access.contains(StorageAccess::STORE)));
            }
            AddressSpace::Uniform => {
                if global.binding.map(|b| (b.group, b.binding)) != Some((0, 0)) || params.is_some() {
                    return Err("the one uniform is `params` at @group(0) @binding(0)".into());
                }
                params = Some(inner);
            }
            AddressSpace::WorkGroup => workgroup_bytes += inner.size(module.to_ctx()),
            _ => {}
        }
    }
    storage.sort_unstable();
    if storage.iter().enumerate().any(|(i, (binding, _))| *binding as usize != i + 1) {
        return Err("storage buffers are bound from 1 without gaps".into());
    }
    let invocations = entry.workgroup_size.iter().product::<u32>();
    if invocations > MAX_INVOCATIONS || workgroup_bytes > MAX_WORKGROUP_BYTES || storage.len() > MAX_STORAGE_BUFFERS {
        return Err(format!(
            "{invocations} invocations, {workgroup_bytes} bytes of workgroup memory and {} storage buffers exceed the \
             portable floor of {MAX_INVOCATIONS}, {MAX_WORKGROUP_BYTES} and {MAX_STORAGE_BUFFERS}",
            storage.len()
        ));
    }
    let TypeInner::Struct { members, span } = params.ok_or("no uniform `params`")? else {
        return Err("`params` is a struct".into());
    };
    let fields = members
        .iter()
        .map(|member| {
            let size = module.types[member.ty].inner.size(module.to_ctx());
            let name = member.name.clone().unwrap_or_default();
            if size == 4 {
                Ok(Field { name, offset: member.offset })
            } else {
                Err(format!("params.{name} is not a scalar"))
            }
        })
        .collect::<Result<_, _>>()?;
    Ok(Reflection {
        writes: storage.into_iter().map(|(_, write)| write).collect(),
        fields,
        params_size: *span,
        workgroup_size: entry.workgroup_size,
    })
}
